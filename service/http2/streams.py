"""The streams of a connection: those that are open, and what is remembered of those that were."""

from collections.abc import Iterator

from .stream import Stream

MOST_ABANDONED = 1024
"""Streams that were ended before their clients did, and whose late frames are passed over."""


class Streams:
    """A table of streams, by their numbers."""

    __slots__ = ("_abandoned", "_open", "last", "last_served")

    def __init__(self) -> None:
        self._open: dict[int, Stream] = {}
        self._abandoned: dict[int, None] = {}
        self.last = 0
        """The highest number that the client has used."""
        self.last_served = 0
        """The highest number that was not refused for leaving."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._open.values())

    def find(self, stream_id: int) -> Stream | None:
        """Return an open stream."""
        return self._open.get(stream_id)

    def add(self, stream: Stream) -> None:
        """Take a stream that was opened."""
        self._open[stream.id] = stream
        self.last_served = stream.id

    def remove(self, stream: Stream) -> None:
        """Forget a stream that is closed."""
        self._open.pop(stream.id, None)

    def abandon(self, stream_id: int) -> None:
        """Remember a stream whose client may still send, knowing nothing of its end."""
        self._abandoned[stream_id] = None
        if len(self._abandoned) > MOST_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def is_abandoned(self, stream_id: int) -> bool:
        """Whether a frame on this stream may have crossed its end."""
        return stream_id in self._abandoned

    def is_idle(self, stream_id: int) -> bool:
        """Whether no stream of this number was ever opened."""
        return stream_id > self.last or not stream_id & 1
