"""The machine: devices, streams, memory, engines, threads and worker processes; it knows no event loop."""
