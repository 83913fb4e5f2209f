"""What both sides say about themselves first: SETTINGS, and the window of the connection."""

from collections.abc import Mapping
from typing import Final

from . import frames
from .errors import ConnectionFault, ErrorCode, calm_down
from .headers import MAX_LIST_SIZE, MAX_TABLE_SIZE
from .limits import Limits

_BOUNDS: Final = {
    frames.ENABLE_PUSH: (range(2), ErrorCode.PROTOCOL_ERROR),
    frames.INITIAL_WINDOW_SIZE: (range(frames.LARGEST_WINDOW + 1), ErrorCode.FLOW_CONTROL_ERROR),
    frames.MAX_FRAME_SIZE: (
        range(frames.SMALLEST_MAX_FRAME, frames.LARGEST_MAX_FRAME + 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


def greeting(limits: Limits) -> bytes:
    """Return what a server begins with."""
    values = {
        frames.HEADER_TABLE_SIZE: MAX_TABLE_SIZE,
        frames.MAX_CONCURRENT_STREAMS: limits.max_streams,
        frames.INITIAL_WINDOW_SIZE: limits.stream_window,
        frames.MAX_FRAME_SIZE: limits.max_frame,
        frames.MAX_HEADER_LIST_SIZE: MAX_LIST_SIZE,
    }
    more = limits.connection_window - frames.DEFAULT_WINDOW
    return frames.settings(values) + frames.window_update(0, more)


def read_settings(payload: bytes, most: int) -> Mapping[int, int]:
    """Return what a client says in a SETTINGS frame, unknown entries among it; raises ConnectionFault."""
    if len(payload) > most * frames.SETTING.size:
        raise calm_down("too many settings")
    values: dict[int, int] = {}
    for key, value in frames.SETTING.iter_unpack(payload):
        bounds = _BOUNDS.get(key)
        if bounds is not None and value not in bounds[0]:
            raise ConnectionFault(bounds[1], f"setting {key} cannot be {value}")
        values[key] = value
    return values
