"""What the lane makes of calls on the wire: bodies, statuses, deadlines, and what headers say."""

import gzip
import zlib
from collections.abc import Awaitable, Callable

import pytest

from deuteron.proto.schema import grpc_service_pb2 as pb
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.lane import packing
from deuteron.service.grpc.lane.heads import Head, head_reader
from deuteron.service.grpc.status import Status
from deuteron.service.http2.errors import ErrorCode, StreamFault

from .lane_wire import HEADERS, SERVICE, Wire, framed, request

Until = Callable[[Callable[[], object]], Awaitable[None]]


# --- calls ---


async def test_an_answer_has_headers_one_message_and_trailers(wire: Wire) -> None:
    for _ in range(3):
        answer = await wire.infer(framed(request()))
        assert answer.headers == {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-accept-encoding": "identity, deflate, gzip",
        }
        assert answer.trailers == {"grpc-status": "0"}
        assert pb.ModelInferResponse.FromString(answer.body[5:]).id == "7"
        assert answer.body[:5] == framed(answer.body[5:])[:5]


async def test_an_error_is_told_in_one_header_block_and_percent_encoded(wire: Wire) -> None:
    answer = await wire.infer(framed(pb.ModelInferRequest(model_name="é%\n~").SerializeToString()))
    assert not answer.trailers
    assert answer.status == (
        Status.NOT_FOUND,
        "Request for unknown model: '%C3%A9%25%0A~' is not found",
    )


async def test_a_message_may_come_in_any_pieces(wire: Wire) -> None:
    body = framed(request())
    answer = await wire.infer(*(body[at : at + 1] for at in range(len(body))))
    assert answer.status == (Status.OK, "")
    answer = await wire.infer(body[:3], b"", body[3:9], body[9:])
    assert answer.status == (Status.OK, "")


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
async def test_packed_messages_are_unpacked(wire: Wire, packed: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if packed is gzip.compress else "deflate"
    answer = await wire.infer(framed(packed(request()), 1), grpc_encoding=encoding)
    assert answer.status == (Status.OK, "")
    answer = await wire.infer(framed(request(), 0), grpc_encoding=encoding)
    assert answer.status == (Status.OK, "")


BROKEN_BODIES = {
    "nothing": ((), {}, Status.INTERNAL),
    "half a prefix": ((b"\0\0",), {}, Status.INTERNAL),
    "half a message": ((framed(request())[:-1],), {}, Status.INTERNAL),
    "two messages": ((framed(request()) * 2,), {}, Status.UNIMPLEMENTED),
    "two messages in turn": ((framed(request()), framed(request())), {}, Status.UNIMPLEMENTED),
    "a flag that is none": ((framed(request(), 2),), {}, Status.INTERNAL),
    "more than may come": ((b"\0\xff\xff\xff\xff",), {}, Status.RESOURCE_EXHAUSTED),
    "packed by nobody knows what": ((framed(b"x", 1),), {"grpc_encoding": "br"}, Status.UNIMPLEMENTED),
    "packed without a word": ((framed(b"x", 1),), {}, Status.INTERNAL),
    "not packed at all": ((framed(b"x", 1),), {"grpc_encoding": "gzip"}, Status.INTERNAL),
    "packed and cut": (
        (framed(gzip.compress(b"x")[:-4], 1),),
        {"grpc_encoding": "gzip"},
        Status.INTERNAL,
    ),
}


@pytest.mark.parametrize(("bodies", "headers", "status"), BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_body_that_is_no_message_ends_its_call_alone(
    wire: Wire, bodies: tuple[bytes, ...], headers: dict[str, str], status: Status
) -> None:
    assert (await wire.infer(*bodies, **headers)).status[0] is status
    assert (await wire.infer(framed(request()))).status[0] is Status.OK


async def test_a_bomb_is_not_unpacked(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_UNPACKED", 1000)
    bomb = framed(gzip.compress(bytes(1_000_000)), 1)
    answer = await wire.infer(bomb, grpc_encoding="gzip")
    assert answer.status[0] is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpcx"}, "415"),
    ],
)
async def test_what_is_no_call_is_told_so_as_http_does(
    wire: Wire, headers: dict[str, str], status: str
) -> None:
    stream_id = wire.call(headers=tuple((dict(HEADERS) | headers).items()))
    assert (await wire.answer(stream_id)).headers[":status"] == status


# --- deadlines ---


async def test_a_call_ends_at_its_deadline_and_its_request_is_taken_back(
    wire: Wire, doorway: Doorway, until: Until
) -> None:
    slow = doorway.repository.find("slow")
    calls = [
        wire.call(framed(request("slow")), headers=(*HEADERS, ("grpc-timeout", "20m"))) for _ in range(20)
    ]
    answers = [await wire.answer(each) for each in calls]
    assert answers[-1].status == (Status.DEADLINE_EXCEEDED, "Deadline Exceeded")
    await until(lambda: not slow.statistics.pending)
    assert slow.statistics.failures["CANCELED"] > 10


async def test_a_stream_ends_at_its_deadline(wire: Wire) -> None:
    headers = tuple((dict(HEADERS) | {":path": f"{SERVICE}ModelStreamInfer", "grpc-timeout": "60m"}).items())
    stream_id = wire.call(framed(request()), headers=headers, ends=False)
    answer = await wire.answer(stream_id)
    assert answer.status[0] is Status.DEADLINE_EXCEEDED
    assert pb.ModelStreamInferResponse.FromString(answer.body[5:]).infer_response.id == "7"


# --- what headers say ---


def head_of(*headers: tuple[str, str]) -> Head:
    named = dict(HEADERS)
    return head_reader({})([(n.encode(), v.encode()) for n, v in (*named.items(), *headers)])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("4m", 0.004), ("5u", 5e-6), ("6n", 6e-9), ("99999999H", 1e9)],
)
def test_timeouts_are_read(text: str, seconds: float) -> None:
    assert head_of(("grpc-timeout", text)).timeout_s == pytest.approx(seconds)


def test_metadata_is_what_the_client_said_beside_the_call() -> None:
    head = head_of(("user-agent", "me"), ("a", "1"), ("a", "é"), ("b-bin", "AAE="), ("c-bin", "AAE,/w"))
    assert head.metadata == (
        ("user-agent", "me"),
        ("a", "1"),
        ("a", "é".encode().decode("latin-1")),
        ("b-bin", b"\0\1"),
        ("c-bin", b"\0\1"),
        ("c-bin", b"\xff"),
    )


MALFORMED = {
    "no path": [(":method", "POST"), (":scheme", "http")],
    "an empty path": [(":method", "POST"), (":scheme", "http"), (":path", "")],
    "two paths": [*HEADERS[:3], (":path", "/b")],
    "a pseudo-header that is none": [*HEADERS[:4], (":status", "200")],
    "a pseudo-header too late": [*HEADERS[:3], ("a", "1"), HEADERS[3]],
    "capitals": [*HEADERS, ("Accept", "x")],
    "a blank in a name": [*HEADERS, ("a b", "x")],
    "an empty name": [*HEADERS, ("", "x")],
    "a line break in a value": [*HEADERS, ("a", "x\r\ny: z")],
    "a header of connections": [*HEADERS, ("connection", "close")],
    "te that is more": [*HEADERS[:4], ("te", "gzip")],
    "a timeout without unit": [*HEADERS, ("grpc-timeout", "5")],
    "a timeout of nothing": [*HEADERS, ("grpc-timeout", "")],
    "a timeout too long": [*HEADERS, ("grpc-timeout", "123456789S")],
    "a negative timeout": [*HEADERS, ("grpc-timeout", "-1S")],
    "binary metadata that is none": [*HEADERS, ("a-bin", "&&&")],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers_end_their_stream(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(StreamFault) as caught:
        head_reader({})([(name.encode(), value.encode()) for name, value in headers])
    assert caught.value.code is ErrorCode.PROTOCOL_ERROR


async def test_a_malformed_request_is_reset_and_the_connection_goes_on(wire: Wire) -> None:
    wire.h2.config.validate_outbound_headers = False
    answer = await wire.answer(wire.call(headers=(*HEADERS, ("grpc-timeout", "soon"))))
    assert answer.reset == ErrorCode.PROTOCOL_ERROR
    assert (await wire.infer(framed(request()))).status[0] is Status.OK
