"""The door: sockets, signals, metrics, logs, command line; it decides nothing about inference."""
