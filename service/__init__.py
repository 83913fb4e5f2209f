"""The door: sockets, signals, metrics, logs and the command line; it decides nothing about inference."""
