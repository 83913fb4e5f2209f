"""The vocabulary of inference and how it is spelt on a wire: no I/O, no loop, no threads."""
