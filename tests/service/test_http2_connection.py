"""The server's half of HTTP/2 satisfies a strict client, wherever the bytes between them are cut."""

from collections.abc import Mapping
from enum import Enum
from itertools import pairwise
from pathlib import Path

import hpack
import pytest
from h2.events import DataReceived, PingAckReceived, ResponseReceived, StreamEnded, TrailersReceived
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from deuteron.proto.phases import diagram
from deuteron.service.http2 import frames
from deuteron.service.http2.errors import ConnectionFault, ErrorCode
from deuteron.service.http2.headers import HeaderReader
from deuteron.service.http2.limits import Limits
from deuteron.service.http2.outbox import AT_ONCE, LONGEST_FRAME
from deuteron.service.http2.phases import CONNECTION, STREAM

from .http2_peer import REQUEST, Pair, Server, preface, sent_frames


def body_of(pair: Pair, stream_id: int) -> bytes:
    """Return what came back on a stream, and let the server send more of it."""
    return b"".join(
        event.data
        for event in pair.events
        if isinstance(event, DataReceived) and event.stream_id == stream_id
    )


def take_in(pair: Pair) -> None:
    """Let the client make room for all that it was sent."""
    seen = 0
    while True:
        received = [event for event in pair.events if isinstance(event, DataReceived)][seen:]
        if not received:
            return
        seen += len(received)
        for event in received:
            pair.client.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        pair.exchange()


def test_a_request_is_answered_with_headers_data_and_trailers() -> None:
    pair = Pair()
    stream_id = pair.ask(b"hello")
    pair.exchange()
    kinds = [type(event) for event in pair.events if getattr(event, "stream_id", 0) == stream_id]
    assert kinds == [ResponseReceived, DataReceived, TrailersReceived, StreamEnded]
    assert body_of(pair, stream_id) == b"hello"
    assert pair.server.connection.streams == 0


def test_a_client_that_repeats_itself_is_understood_each_time() -> None:
    """Also while its table changes, and when it begins to be small."""
    pair = Pair()
    for number in range(6):
        stream_id = pair.client.get_next_available_stream_id()
        headers = [*REQUEST, ("x", str(number // 2))]
        pair.client.send_headers(stream_id, headers, end_stream=True)
        pair.exchange()
        told = [(name.decode(), value.decode()) for name, value in pair.server.exchanges[stream_id].head]
        assert told == headers
        if number == 3:
            pair.client.encoder.header_table_size = 0
    assert len(pair.of(StreamEnded)) == 6


def test_the_same_bytes_mean_something_else_after_the_table_has_changed() -> None:
    """What they meant before would be the headers of another request."""
    reader = HeaderReader(tuple)
    inserts = hpack.Encoder().encode([("name", "one")])
    refers = b"\xbe"  # to the youngest entry
    assert reader.request(inserts) == ((b"name", b"one"),)
    assert [reader.request(refers) for _ in range(2)] == [((b"name", b"one"),)] * 2
    assert reader.headers(hpack.Encoder().encode([("name", "two")])) == [(b"name", b"two")]
    assert [reader.request(refers) for _ in range(2)] == [((b"name", b"two"),)] * 2
    reader.headers(b"\x20")  # a table of no size
    with pytest.raises(ConnectionFault):
        reader.request(refers)


def test_a_client_with_a_small_table_understands_all_answers() -> None:
    pair = Pair()
    for size in (4096, 0, 64, 4096):
        pair.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        pair.exchange()
        pair.ask(b"x")
        pair.exchange()
    assert len(pair.of(StreamEnded)) == 4


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 5_000_000])
def test_bodies_of_every_size_pass_both_ways_through_their_windows(size: int) -> None:
    pair = Pair()
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream_id, REQUEST)
    left = body
    while left:
        pair.exchange()
        room = min(pair.client.local_flow_control_window(stream_id), pair.client.max_outbound_frame_size)
        assert room > 0
        pair.client.send_data(stream_id, left[:room])
        left = left[room:]
    pair.client.end_stream(stream_id)
    pair.exchange()
    take_in(pair)
    assert body_of(pair, stream_id) == body
    assert len(pair.of(StreamEnded)) == 1


def test_a_client_may_shrink_its_window_below_nothing_and_widen_it_again() -> None:
    pair = Pair(Server(answers=False))
    stream_id = pair.ask(bytes(50_000))
    pair.exchange()
    pair.server.exchanges[stream_id].body *= 2
    pair.server.exchanges[stream_id].answer()
    pair.exchange()
    assert len(body_of(pair, stream_id)) == 65_535
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.exchange()
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    pair.client.increment_flow_control_window(1 << 20)
    pair.exchange()
    assert len(body_of(pair, stream_id)) == 100_000
    assert pair.of(StreamEnded)


def test_streams_that_wait_for_the_connection_are_served_in_turn() -> None:
    pair = Pair()
    streams = [pair.ask(bytes(40_000)) for _ in range(3)]
    pair.exchange()
    assert [len(body_of(pair, each)) for each in streams] == [40_000, 25_535, 0]
    take_in(pair)
    assert [len(body_of(pair, each)) for each in streams] == [40_000] * 3


def test_no_frame_and_no_handful_of_them_is_longer_than_serves_anybody() -> None:
    """However wide the windows of a client, and however long the frames that it takes."""
    pair = Pair(Server(answers=False))
    wide: dict[SettingCodes | int, int] = {
        SettingCodes.INITIAL_WINDOW_SIZE: 1 << 30,
        SettingCodes.MAX_FRAME_SIZE: 2**24 - 1,
    }
    pair.client.update_settings(wide)
    pair.client.increment_flow_control_window(1 << 30)
    stream_id = pair.ask()
    pair.exchange()
    outbox = pair.server.connection.outbox
    pair.server.exchanges[stream_id].body = bytes(9_000_000)
    pair.server.exchanges[stream_id].answer()
    handed = b"".join(outbox.take())
    assert len(handed) < AT_ONCE + LONGEST_FRAME + 100
    assert max(len(payload) for *_, payload in sent_frames(handed)) == LONGEST_FRAME
    outbox.pump()
    pair.events += pair.client.receive_data(handed)
    pair.exchange()
    assert len(body_of(pair, stream_id)) == 9_000_000


def test_a_transport_that_takes_no_more_holds_back_answers_and_not_acknowledgements() -> None:
    pair = Pair()
    pair.server.connection.outbox.paused = True
    stream_id = pair.ask(b"hello")
    pair.client.ping(b"12345678")
    pair.exchange()
    assert pair.of(PingAckReceived)
    assert not pair.of(ResponseReceived)
    pair.server.connection.outbox.paused = False
    pair.server.connection.outbox.pump()
    pair.exchange()
    assert body_of(pair, stream_id) == b"hello"


def test_padding_is_taken_off_and_given_back() -> None:
    """The windows count it: without giving it back, a client that pads would run dry."""
    pair = Pair(Server(Limits(stream_window=70_000, connection_window=70_000)))
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream_id, REQUEST)
    for _ in range(500):
        pair.client.send_data(stream_id, b"x", pad_length=255)
        pair.exchange()
    pair.client.end_stream(stream_id)
    pair.exchange()
    assert body_of(pair, stream_id) == b"x" * 500


def test_trailers_of_a_client_end_its_request() -> None:
    pair = Pair()
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream_id, REQUEST)
    pair.client.send_data(stream_id, b"hello")
    pair.client.send_headers(stream_id, [("x-checksum", "7")], end_stream=True)
    pair.exchange()
    assert body_of(pair, stream_id) == b"hello"


def test_a_stream_that_is_taken_back_is_heard_of_and_its_late_data_passed_over() -> None:
    pair = Pair(Server(answers=False))
    first = pair.ask(b"x")
    pair.exchange()
    pair.client.reset_stream(first, ErrorCode.CANCEL)
    pair.exchange()
    assert pair.server.exchanges[first].heard == ["end", "reset"]
    second = pair.ask(b"y")
    pair.exchange()
    assert pair.server.exchanges[second].body == b"y"
    assert pair.end is None


def test_an_answer_before_the_end_of_its_request_spares_the_client_the_rest() -> None:
    pair = Pair(Server(answers=False))
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream_id, REQUEST)
    pair.client.send_data(stream_id, b"x")
    pair.exchange()
    late = frames.frame(frames.DATA, frames.END_STREAM, stream_id, b"late")
    pair.server.exchanges[stream_id].answer()
    pair.exchange()
    assert pair.resets == {stream_id: ErrorCode.NO_ERROR}
    pair.server.receive(late)
    assert not sent_frames(pair.server.sent())
    assert pair.server.connection.streams == 0


def test_more_streams_than_allowed_are_refused_and_may_come_again() -> None:
    pair = Pair(Server(Limits(max_streams=2), answers=False))
    pair.client.remote_settings.acknowledge()
    pair.client.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 9  # a client that has not read them
    pair.client.remote_settings.acknowledge()
    streams = [pair.ask(b"x") for _ in range(3)]
    pair.exchange()
    assert pair.resets == {streams[2]: ErrorCode.REFUSED_STREAM}
    pair.server.exchanges[streams[0]].answer()
    pair.exchange()
    again = pair.ask(b"again")
    pair.exchange()
    assert pair.server.exchanges[again].body == b"again"


def test_a_server_that_leaves_serves_what_came_before() -> None:
    pair = Pair(Server(answers=False))
    first = pair.ask(b"x")
    pair.exchange()
    pair.server.connection.warn()
    pair.server.connection.leave()
    late = pair.server.sent()
    told = [frame for frame in sent_frames(late) if frame[0] == frames.GOAWAY]
    assert [int.from_bytes(payload[:4]) for *_, payload in told] == [2**31 - 1, first]
    second = pair.ask(b"y")
    pair.server.receive(pair.client.data_to_send())
    assert second not in pair.server.exchanges
    assert not sent_frames(pair.server.sent())
    pair.server.exchanges[first].answer()
    kinds = [kind for kind, *_ in sent_frames(pair.server.sent())]
    assert kinds == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert pair.server.connection.streams == 0


def test_a_header_block_in_pieces_is_put_together() -> None:
    server = Server()
    server.receive(preface())
    server.sent()
    block = hpack.Encoder().encode(REQUEST)
    pieces = [block[:3], block[3:4], b"", block[4:]]
    sent = frames.frame(frames.HEADERS, frames.END_STREAM, 1, pieces[0])
    sent += b"".join(frames.frame(frames.CONTINUATION, 0, 1, each) for each in pieces[1:3])
    sent += frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, pieces[3])
    server.receive(sent)
    assert dict(server.exchanges[1].head)[b":path"] == b"/echo"
    assert server.exchanges[1].heard == ["end"]


def test_what_http2_has_taken_back_or_does_not_know_is_passed_over() -> None:
    pair = Pair()
    pair.client.prioritize(7, weight=3)
    unknown = frames.frame(0xBA, 0xFF, 5, bytes(100))
    for at in range(len(unknown) + 1):
        pair.server.receive(unknown[:at])
        pair.server.receive(unknown[at:])
    stream_id = pair.ask(b"hello")
    pair.exchange()
    assert body_of(pair, stream_id) == b"hello"


# --- wherever the bytes are cut ---

CUTS = st.lists(st.integers(0, 400), max_size=12)
BODIES = st.lists(st.binary(max_size=80), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(BODIES, CUTS, st.booleans(), st.integers(0, 200))
def test_it_makes_no_difference_where_bytes_are_cut(
    bodies: list[bytes], cuts: list[int], every_byte: bool, padding: int
) -> None:
    def cut(data: bytes) -> list[bytes]:
        if every_byte:
            return [data[at : at + 1] for at in range(len(data))]
        places = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
        return [data[a:b] for a, b in pairwise(places)]

    pair = Pair(cut=cut)
    streams = [pair.client.get_next_available_stream_id()]
    for number, body in enumerate(bodies):
        stream_id = pair.client.get_next_available_stream_id()
        streams.append(stream_id)
        pair.client.send_headers(stream_id, [*REQUEST, ("number", str(number))])
        pair.client.ping(b"pingping")
        pair.client.send_data(stream_id, body, pad_length=padding or None)
        pair.client.end_stream(stream_id)
    pair.exchange()
    assert [body_of(pair, each) for each in streams[1:]] == bodies
    assert len(pair.of(PingAckReceived)) == len(bodies)
    assert pair.end is None


# --- the tables ---


@pytest.mark.parametrize("table", [CONNECTION, STREAM])
def test_the_diagrams_in_the_documentation_are_those_of_the_tables(
    table: Mapping[tuple[Enum, Enum], Enum],
) -> None:
    assert diagram(table) in (Path(__file__).parents[2] / "docs" / "lifecycles.md").read_text()
