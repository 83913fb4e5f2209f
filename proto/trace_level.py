"""What of a request is traced."""

from enum import Flag, auto


class TraceLevel(Flag):
    """Any of these together; the names are those of the protocol."""

    OFF = 0
    TIMESTAMPS = auto()
    """When it came to each stage of its way."""
    TENSORS = auto()
    """What its inputs and outputs looked like."""
