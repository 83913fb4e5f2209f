"""The error by which a function says that it can serve no more."""


class UnrecoverableError(Exception):
    """Raised by a function that can serve no more, whatever is asked: its server comes to an end."""
