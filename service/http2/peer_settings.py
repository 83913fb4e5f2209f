"""What a client says about itself in SETTINGS."""

from collections.abc import Mapping
from typing import Final

from . import frames
from .errors import ConnectionFault, ErrorCode, calm_down, wrong_size

_BOUNDS: Final = {
    frames.ENABLE_PUSH: (range(2), ErrorCode.PROTOCOL_ERROR),
    frames.INITIAL_WINDOW_SIZE: (range(frames.LARGEST_WINDOW + 1), ErrorCode.FLOW_CONTROL_ERROR),
    frames.MAX_FRAME_SIZE: (
        range(frames.SMALLEST_MAX_FRAME, frames.LARGEST_MAX_FRAME + 1),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


def read_settings(payload: bytes, most: int) -> Mapping[int, int]:
    """Return what holds after a SETTINGS frame, unknown entries among it; raises ConnectionFault."""
    if len(payload) % frames.SETTING.size:
        raise wrong_size("SETTINGS")
    if len(payload) > most * frames.SETTING.size:
        raise calm_down("too many settings")
    values: dict[int, int] = {}
    for key, value in frames.SETTING.iter_unpack(payload):
        bounds = _BOUNDS.get(key)
        if bounds is not None and value not in bounds[0]:
            raise ConnectionFault(bounds[1], f"setting {key} cannot be {value}")
        values[key] = value
    return values
