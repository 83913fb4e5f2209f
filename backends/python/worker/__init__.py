"""What runs in the processes of Python models: it imports numpy and msgpack, and nothing of the server."""
