"""How much of a thing one request may bring, where Triton sets no bound but its memory."""

from typing import Final

from .errors import invalid

MAX_TENSORS: Final = 4096
"""Inputs, and outputs, that one request may name."""
MAX_PARAMETERS: Final = 1024
"""Parameters of one request; those of a tensor are looked up, never walked through."""


def check_number_of(what: str, number: int, most: int) -> None:
    """Raise InferError when a request has more of something than any model needs."""
    if number > most:
        raise invalid(f"request has {number} {what}, more than the {most} that are supported")
