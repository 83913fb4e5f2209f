"""The server as a library: in the process of whoever uses it, with its doors open or closed."""
