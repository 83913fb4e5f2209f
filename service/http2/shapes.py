"""The shapes of control frames, as a table: what each is of, connection or stream, and how long it is."""

from enum import Enum
from typing import Final, NamedTuple

from . import frames
from .errors import protocol_error, wrong_size


class Of(Enum):
    """What a frame is about."""

    CONNECTION = "connection"
    STREAM = "stream"
    EITHER = "either"


class Shape(NamedTuple):
    """What a frame of some kind looks like."""

    name: str
    of: Of
    sizes: range
    """How many bytes of payload it has."""


def _exactly(size: int) -> range:
    return range(size, size + 1)


_ANY: Final = range(frames.LARGEST_MAX_FRAME + 1)

SHAPES: Final = {
    frames.PRIORITY: Shape("PRIORITY", Of.STREAM, _ANY),  # of a wrong size, it breaks its stream alone
    frames.RST_STREAM: Shape("RST_STREAM", Of.STREAM, _exactly(frames.NUMBER.size)),
    frames.SETTINGS: Shape("SETTINGS", Of.CONNECTION, _ANY[:: frames.SETTING.size]),
    frames.PING: Shape("PING", Of.CONNECTION, _exactly(8)),
    frames.GOAWAY: Shape("GOAWAY", Of.CONNECTION, _ANY[2 * frames.NUMBER.size :]),
    frames.WINDOW_UPDATE: Shape("WINDOW_UPDATE", Of.EITHER, _exactly(frames.NUMBER.size)),
}


def check_shape(kind: int, stream_id: int, size: int) -> None:
    """Raise ConnectionFault for a control frame that is not what its kind should be."""
    shape = SHAPES.get(kind)
    if shape is None:
        return
    if shape.of is Of.STREAM and not stream_id:
        raise protocol_error(f"{shape.name} on no stream")
    if shape.of is Of.CONNECTION and stream_id:
        raise protocol_error(f"{shape.name} on a stream")
    if size not in shape.sizes:
        raise wrong_size(shape.name)
