"""What runs in the processes that Python models live in: it imports numpy and msgpack, and nothing of the server."""
