"""What a client may have and do, at most."""

from dataclasses import dataclass, field

from .budget import PingRules


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection."""

    max_streams: int = 4096
    """Streams that may be open together; those beyond are refused, which clients may try again."""
    max_frame: int = 1 << 20
    """Bytes of a DATA frame."""
    stream_window: int = 4 << 20
    """Bytes that may be sent on a stream and wait to be consumed."""
    connection_window: int = 64 << 20
    """Bytes that may be sent on all streams and wait to be consumed."""
    max_header_block: int = 32 << 10
    """Bytes of a header block as it travels, over all its frames."""
    max_continuations: int = 16
    """Frames that one header block may be cut into, beyond its first."""
    max_settings: int = 64
    """Entries of one SETTINGS frame."""
    most_overhead: int = 4000
    """Frames that ask for nothing, before their client is cut off; a served request earns some."""
    overhead_per_s: float = 1000.0
    """Such frames that are forgotten each second."""
    most_resets: int = 2000
    """Streams that a client may open and take back, before it is cut off; a served request earns one."""
    resets_per_s: float = 200.0
    """Such streams that are forgotten each second."""
    pings: PingRules = field(default_factory=PingRules)
