"""A strict client of HTTP/2, the package `h2`, and a server's half that echoes, joined without a socket."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, StreamReset

from deuteron.service.http2 import frames
from deuteron.service.http2.connection import Connection
from deuteron.service.http2.headers import Header
from deuteron.service.http2.limits import Limits
from deuteron.service.http2.stream import Buffer, Stream

REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/echo"),
    (":authority", "here"),
    ("te", "trailers"),
)
OPENING = ((":status", "200"), ("content-type", "x"))
CLOSING = (("grpc-status", "0"),)
Head = tuple[Header, ...]


@dataclass
class Echo:
    """An exchange that sends back what it is sent, when that is complete, and writes down what it heard."""

    connection: Connection[Head]
    stream: Stream
    head: Head
    heard: list[str] = field(default_factory=list)
    body: bytes = b""
    answers: bool = True
    eats: bool = True

    def data(self, piece: Buffer) -> None:
        self.body += piece
        if self.eats:
            self.connection.consumed(self.stream, len(piece))

    def end(self) -> None:
        self.heard.append("end")
        if self.answers:
            self.answer()

    def answer(self) -> None:
        outbox = self.connection.outbox
        opening, closing = outbox.headers.constant(OPENING), outbox.headers.constant(CLOSING)
        outbox.answer(self.stream, opening, (self.body,), closing)

    def reset(self) -> None:
        self.heard.append("reset")

    def drained(self) -> None:
        self.heard.append("drained")


class Server:
    """The half under test, with a clock that stands still unless it is told."""

    def __init__(self, limits: Limits | None = None, *, answers: bool = True, eats: bool = True) -> None:
        self.now = 0.0
        self.exchanges: dict[int, Echo] = {}
        self.answers = answers
        self.eats = eats
        self.connection: Connection[Head] = Connection(
            self._read, self._accept, limits or Limits(), lambda: self.now
        )
        self.connection.greet()

    def _read(self, headers: Sequence[Header]) -> Head:
        return tuple(headers)

    def _accept(self, stream: Stream, head: Head) -> Echo:
        echo = Echo(self.connection, stream, head, answers=self.answers, eats=self.eats)
        self.exchanges[stream.id] = echo
        return echo

    def receive(self, data: bytes) -> None:
        self.connection.receive(data)

    def sent(self) -> bytes:
        """Return what is to be sent, until there is no more."""
        sent = b""
        outbox = self.connection.outbox
        while outbox.waiting:
            sent += b"".join(outbox.take())
            outbox.pump()
        return sent


class Pair:
    """A client and a server, joined."""

    def __init__(
        self, server: Server | None = None, cut: Callable[[bytes], Sequence[bytes]] | None = None
    ) -> None:
        self.server = server or Server()
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.initiate_connection()
        self.events: list[Event] = []
        self._cut = cut or (lambda data: [data])
        self.exchange()

    def exchange(self) -> None:
        """Let both talk until neither has more to say; the client raises where the server is not strict."""
        while True:
            forth = self.client.data_to_send()
            for piece in self._cut(forth):
                self.server.receive(piece)
            back = self.server.sent()
            if not forth and not back:
                return
            self.events += self.client.receive_data(back)

    def ask(self, body: bytes = b"") -> int:
        """Send a request; return its stream."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, REQUEST)
        self.client.send_data(stream_id, body, end_stream=True)
        return stream_id

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def end(self) -> int | None:
        """The error code that the connection ended with; None while it goes on."""
        ends = [event for event in self.events if isinstance(event, ConnectionTerminated)]
        return None if not ends else int(ends[-1].error_code or 0)

    @property
    def resets(self) -> dict[int, int]:
        """The streams that the server reset, with their error codes."""
        return {
            event.stream_id: int(event.error_code or 0)
            for event in self.events
            if isinstance(event, StreamReset)
        }


def preface() -> bytes:
    """Return what a client begins with."""
    return frames.PREFACE + frames.settings({})


def sent_frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Return frames as kind, flags, stream and payload."""
    found = []
    while data:
        high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data)
        size = frames.HEAD_SIZE + (high << 8 | low)
        found.append((kind, flags, stream_id, data[frames.HEAD_SIZE : size]))
        data = data[size:]
    return found
