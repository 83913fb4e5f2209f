"""Environments of Python models: packages, and perhaps a Python, of their own."""
