"""The machine: devices, memory, engines and the threads they run on; it knows no event loop."""
