"""The context of a trace, as W3C's Trace Context spells it in two headers.

It names a trace and one span in it, the parent of whatever is done on its behalf, and goes from caller to
called. Vendors add what they like in `tracestate`, which is carried along unread.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from secrets import randbits
from typing import Final

TRACE_PARENT: Final = "traceparent"
TRACE_STATE: Final = "tracestate"

MAX_STATE: Final = 512
"""Characters of a `tracestate` that are carried along; a longer one is dropped, as it may be."""

_TRACE_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_STATE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of a trace."""

    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    state: str = ""

    @property
    def parent_header(self) -> str:
        """The `traceparent` for whoever is called by this span; it is recorded."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"

    def child(self) -> "TraceContext":
        """Return the context of a new span below this one."""
        return TraceContext(self.trace_id, _identifier(64), self.state)

    def as_json(self) -> str:
        """Return both headers as one JSON object."""
        headers = {TRACE_PARENT: self.parent_header} | ({TRACE_STATE: self.state} if self.state else {})
        return json.dumps(headers, separators=(",", ":"))


def new_trace() -> TraceContext:
    """Return the context of the first span of a trace of its own."""
    return TraceContext(_identifier(128), _identifier(64))


def read_context(headers: Iterable[tuple[str | bytes, str | bytes]]) -> TraceContext | None:
    """Return the context that headers, or the metadata of a call, bring along; None where they bring none."""
    parent = state = ""
    for key, value in headers:
        name = _text(key).lower()
        if name == TRACE_PARENT:
            parent = _text(value)
        elif name == TRACE_STATE:
            state = _text(value)
    return _parse(parent.strip(), state.strip())


def _parse(parent: str, state: str) -> TraceContext | None:
    match = _TRACE_PARENT.fullmatch(parent)
    if match is None:
        return None
    version, trace_id, span_id, more = match.groups()
    if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
        return None
    kept = state if len(state) <= MAX_STATE and _STATE.fullmatch(state) else ""
    return TraceContext(int(trace_id, 16), int(span_id, 16), kept)


def _identifier(bits: int) -> int:
    """Return a random identifier; 0 would be none."""
    return randbits(bits) or 1


def _text(spelt: str | bytes) -> str:
    return spelt.decode("latin-1") if isinstance(spelt, bytes) else spelt
