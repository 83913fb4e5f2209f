"""What a client must not do ends a stream or its connection with the error that RFC 9113 gives it."""

from collections.abc import Iterator

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deuteron.service.http2 import frames
from deuteron.service.http2.budget import PingRules
from deuteron.service.http2.errors import ErrorCode
from deuteron.service.http2.frames import frame
from deuteron.service.http2.limits import Limits

from .http2_peer import REQUEST, Server, preface, sent_frames

Sent = list[tuple[int, int, int, bytes]]

BLOCK = hpack.Encoder().encode([(name, value, True) for name, value in REQUEST])
WHOLE = frames.END_STREAM | frames.END_HEADERS


def open_stream(stream_id: int = 1, flags: int = frames.END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags, stream_id, BLOCK)


def settings_of(*entries: tuple[int, int]) -> bytes:
    return frame(frames.SETTINGS, 0, 0, b"".join(frames.SETTING.pack(*each) for each in entries))


def told(server: Server) -> Iterator[tuple[int, int, bytes]]:
    """Yield the ends of streams, and with stream 0 of the connection, that a server tells."""
    for kind, _, stream_id, payload in sent_frames(server.sent()):
        if kind == frames.RST_STREAM:
            yield stream_id, int.from_bytes(payload), b""
        elif kind == frames.GOAWAY:
            yield 0, int.from_bytes(payload[4:8]), payload[8:]


def answer_to(*sent: bytes, server: Server | None = None) -> list[tuple[int, int]]:
    """Return how a server that does not answer ends streams and connection after this."""
    server = server or Server(answers=False)
    server.receive(preface())
    for each in sent:
        server.receive(each)
    return [(stream_id, code) for stream_id, code, _ in told(server)]


BROKEN_CONNECTIONS = {
    "DATA on no stream": (frame(frames.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(frames.DATA, 0, 5, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on no stream": (open_stream(0), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even stream": (open_stream(2), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on a stream that was passed over": (open_stream(5) + open_stream(3), ErrorCode.STREAM_CLOSED),
    "no HPACK": (frame(frames.HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "a table beyond what was allowed": (
        frame(frames.HEADERS, WHOLE, 1, b"\x3f\xff\xff\x03"),
        ErrorCode.COMPRESSION_ERROR,
    ),
    "more padding than payload": (
        frame(frames.HEADERS, WHOLE | frames.PADDED, 1, b"\xff" + BLOCK),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "padding without its length": (
        open_stream() + frame(frames.DATA, frames.PADDED, 1),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "DATA of nothing but padding": (
        open_stream() + frame(frames.DATA, frames.PADDED, 1, b"\x09"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "a frame within a header block": (
        frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.PING, 0, 0, bytes(8)),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION of another stream": (
        frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.CONTINUATION, 4, 3),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "CONTINUATION of nothing": (frame(frames.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY on no stream": (frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on no stream": (frame(frames.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frame(frames.RST_STREAM, 0, 7, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a short RST_STREAM": (
        open_stream() + frame(frames.RST_STREAM, 0, 1, bytes(3)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "SETTINGS on a stream": (frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS cut off": (frame(frames.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "an acknowledgement that says more": (frame(frames.SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "a push that is neither": (settings_of((frames.ENABLE_PUSH, 2)), ErrorCode.PROTOCOL_ERROR),
    "a window too wide": (settings_of((frames.INITIAL_WINDOW_SIZE, 2**31)), ErrorCode.FLOW_CONTROL_ERROR),
    "frames too short": (settings_of((frames.MAX_FRAME_SIZE, 16_383)), ErrorCode.PROTOCOL_ERROR),
    "frames too long": (settings_of((frames.MAX_FRAME_SIZE, 2**24)), ErrorCode.PROTOCOL_ERROR),
    "a hundred settings": (settings_of(*[(77, 1)] * 100), ErrorCode.ENHANCE_YOUR_CALM),
    "PUSH_PROMISE": (frame(frames.PUSH_PROMISE, 4, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a short PING": (frame(frames.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "a short GOAWAY": (frame(frames.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by nothing": (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE beyond all bounds": (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE on an idle stream": (frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "a short WINDOW_UPDATE": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "a frame beyond what was allowed": (
        frames.HEAD.pack(0xFFFF, 0xFF, frames.DATA, 0, 1),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "a long frame that should be short": (
        frames.HEAD.pack(0x0FFF, 0xFF, frames.SETTINGS, 0, 0),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "a window that grows too wide by settings": (
        open_stream() + frames.window_update(1, 2**30) + settings_of((frames.INITIAL_WINDOW_SIZE, 2**31 - 1)),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN_CONNECTIONS.values(), ids=BROKEN_CONNECTIONS)
def test_a_broken_connection_ends_with_its_error(sent: bytes, code: ErrorCode) -> None:
    assert answer_to(sent)[-1] == (0, code)


BROKEN_STREAMS = {
    "DATA after the end": (open_stream(1, WHOLE) + frame(frames.DATA, 0, 1, b"x"), ErrorCode.STREAM_CLOSED),
    "trailers that do not end": (open_stream() + open_stream(), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of a wrong length": (
        open_stream() + frame(frames.PRIORITY, 0, 1, bytes(4)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "WINDOW_UPDATE by nothing": (open_stream() + frames.window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE beyond all bounds": (
        open_stream() + frames.window_update(1, 2**31 - 1),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "too many headers": (
        frame(frames.HEADERS, WHOLE, 1, hpack.Encoder().encode([*REQUEST, *[("x", "y" * 100, True)] * 150])),
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN_STREAMS.values(), ids=BROKEN_STREAMS)
def test_a_broken_stream_ends_with_its_error_and_the_others_go_on(sent: bytes, code: ErrorCode) -> None:
    server = Server(answers=False)
    assert answer_to(sent, server=server) == [(1, code)]
    server.receive(open_stream(3, WHOLE))
    assert server.exchanges[3].heard == ["end"]


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX"])
def test_who_does_not_speak_http2_is_hung_up_on(begun: bytes) -> None:
    server = Server()
    server.receive(begun)
    assert [code for _, code, _ in told(server)] == [ErrorCode.PROTOCOL_ERROR]


def test_settings_must_come_first() -> None:
    server = Server()
    server.receive(frames.PREFACE + frame(frames.PING, 0, 0, bytes(8)))
    assert [code for _, code, _ in told(server)] == [ErrorCode.PROTOCOL_ERROR]


@pytest.mark.parametrize("limits", [Limits(stream_window=70_000), Limits(connection_window=70_000)])
def test_data_beyond_the_windows_is_an_error(limits: Limits) -> None:
    server = Server(limits, eats=False)
    sent = open_stream() + frame(frames.DATA, 0, 1, bytes(10_000)) * 8
    assert answer_to(sent, server=server)[-1][1] == ErrorCode.FLOW_CONTROL_ERROR


def test_after_the_end_nothing_is_read_and_everybody_is_told() -> None:
    server = Server(answers=False)
    answer_to(open_stream(), frame(frames.PING, 0, 0, b""), server=server)
    server.receive(open_stream(3))
    assert not server.sent()
    assert list(server.exchanges) == [1]
    assert server.exchanges[1].heard == ["reset"]
    assert server.connection.streams == 0


# --- floods: each is cut off with ENHANCE_YOUR_CALM, and never before a client that works would be ---

FLOODS = {
    "pings": frame(frames.PING, 0, 0, bytes(8)),
    "answers to no ping": frame(frames.PING, frames.ACK, 0, bytes(8)),
    "settings": settings_of((frames.INITIAL_WINDOW_SIZE, 70_000)),
    "acknowledgements": frame(frames.SETTINGS, frames.ACK, 0),
    "priorities": frame(frames.PRIORITY, 0, 3, bytes(5)),
    "windows": frames.window_update(0, 1),
    "farewells": frame(frames.GOAWAY, 0, 0, bytes(8)),
    "frames of no kind": frame(0x77, 0, 0),
    "data without data": frame(frames.DATA, 0, 1),
    "data that is padding": frame(frames.DATA, frames.PADDED, 1, b"\0"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_cut_off(flood: bytes) -> None:
    server = Server(Limits(most_overhead=100, pings=PingRules(max_strikes=0)), answers=False)
    assert answer_to(open_stream(), flood * 8, server=server) == []
    server.receive(flood * 200)
    assert [code for _, code, _ in told(server)] == [ErrorCode.ENHANCE_YOUR_CALM]


def test_a_flood_that_takes_its_time_is_none() -> None:
    server = Server(Limits(most_overhead=100, pings=PingRules(max_strikes=0)))
    answer_to(server=server)
    for _ in range(100):
        server.receive(FLOODS["windows"] * 50)
        server.now += 0.05
    assert not list(told(server))


def test_a_client_that_is_served_earns_its_windows() -> None:
    server = Server(Limits(most_overhead=100, overhead_per_s=0))
    answer_to(server=server)
    for number in range(1, 4001, 2):
        server.receive(open_stream(number, WHOLE) + FLOODS["windows"] * 5)
    assert not list(told(server))


def test_streams_that_are_taken_back_at_once_are_cut_off() -> None:
    """The attack called rapid reset."""
    server = Server(Limits(most_resets=50), answers=False)
    sent = [open_stream(n, WHOLE) + frames.rst_stream(n, ErrorCode.CANCEL) for n in range(1, 200, 2)]
    assert answer_to(*sent[:50], server=server) == []
    server.receive(b"".join(sent[50:]))
    assert [code for _, code, _ in told(server)] == [ErrorCode.ENHANCE_YOUR_CALM]
    assert len(server.exchanges) == 51


def test_streams_that_make_the_server_reset_them_are_cut_off() -> None:
    """The attack called made-you-reset: the client never sends RST_STREAM itself."""
    server = Server(Limits(most_overhead=100), answers=False)
    sent = [open_stream(n, WHOLE) + frames.window_update(n, 0) for n in range(1, 400, 2)]
    assert answer_to(*sent, server=server)[-1] == (0, ErrorCode.ENHANCE_YOUR_CALM)


def test_a_header_block_without_end_is_cut_off() -> None:
    begun = frame(frames.HEADERS, 0, 1, BLOCK)
    empty = frame(frames.CONTINUATION, 0, 1) * 40
    assert answer_to(begun, empty) == [(0, ErrorCode.ENHANCE_YOUR_CALM)]
    long = frame(frames.CONTINUATION, 0, 1, bytes(16_000)) * 3
    assert answer_to(begun, long) == [(0, ErrorCode.ENHANCE_YOUR_CALM)]


def test_a_small_block_that_becomes_many_headers_is_cut_off() -> None:
    """A bomb: one large entry of the table, and many references to it."""
    bomb = b"\x40\x01x\x7f\xb9\x16" + b"y" * 3000
    refer = b"\xbe" * 25
    sent = frame(frames.HEADERS, WHOLE, 1, bomb + refer)
    assert answer_to(sent) == [(0, ErrorCode.ENHANCE_YOUR_CALM)]


def test_early_pings_are_forgiven_as_often_as_the_rules_say() -> None:
    server = Server(Limits(pings=PingRules(min_interval_s=10, max_strikes=2)), answers=False)
    ping = FLOODS["pings"]
    assert answer_to(open_stream(), ping, ping, ping, server=server) == []
    server.receive(ping)
    assert list(told(server)) == [(0, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")]


def test_pings_that_come_in_time_or_after_an_answer_are_no_early_ones() -> None:
    server = Server(Limits(pings=PingRules(min_interval_s=10, max_strikes=1)))
    answer_to(server=server)
    for number in range(1, 40, 2):
        server.receive(open_stream(number, WHOLE) + FLOODS["pings"])
    assert not list(told(server))
    server = Server(Limits(pings=PingRules(10, 1, permit_without_calls=True)))
    answer_to(server=server)
    for _ in range(20):
        server.receive(FLOODS["pings"])
        server.now += 10
    assert not list(told(server))


# --- whatever comes ---

KINDS = st.integers(0, 11)
IDS = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 2**31 - 1, 2**32 - 1])
PAYLOADS = st.one_of(st.just(BLOCK), st.binary(max_size=40), st.just(bytes(8)), st.just(bytes(4)))
FRAMES = st.builds(frame, KINDS, st.integers(0, 255), IDS, PAYLOADS)


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=25), st.integers(1, 60), st.booleans())
def test_whatever_comes_is_answered_alike_wherever_it_is_cut(
    sent: list[bytes], step: int, answers: bool
) -> None:
    """And raises nothing; an exchange that was opened and not answered is told of its end."""
    whole, cut = Server(answers=answers), Server(answers=answers)
    data = preface() + b"".join(sent)
    whole.receive(data)
    for at in range(0, len(data), step):
        cut.receive(data[at : at + step])
    assert whole.sent() == cut.sent()
    for server in (whole, cut):
        server.connection.end()
        assert server.connection.streams == 0
    assert {n: each.heard for n, each in whole.exchanges.items()} == {
        n: each.heard for n, each in cut.exchanges.items()
    }
