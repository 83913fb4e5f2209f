"""What travels between the server and the worker processes of Python models, and the memory they share."""
