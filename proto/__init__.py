"""The vocabulary and how it is spelt on a wire: no I/O, no event loop, no threads."""
