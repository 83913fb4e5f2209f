"""The HTTP door: KServe's v2 protocol with Triton's extensions."""
