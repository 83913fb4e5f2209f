"""Return addresses: one response, many, and none that can hurt its sender."""

import asyncio
from dataclasses import dataclass

import pytest

from deuteron.actors import reply as reply_module
from deuteron.actors.ordering import Line
from deuteron.actors.reply import OneReply, StreamReply
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Response
from deuteron.proto.tensor import Tensor


def answer(number: int, *, final: bool = True) -> Response:
    """Return a response that can be told from others."""
    return Response({str(number): Tensor(Datatype.INT32, (1,), b"\0\0\0\0")}, final=final)


@dataclass
class Recorder:
    """A reply that notes what it was sent, and when among others."""

    number: int
    arrived: list[tuple[int, bool]]

    def send(self, response: Response) -> None:
        """Note the response."""
        self.arrived.append((self.number, response.final))


async def test_one_response_is_handed_over() -> None:
    """The response that was sent is the one awaited."""
    reply = OneReply()
    response = answer(1)
    reply.send(response)
    assert await reply is response


async def test_an_error_is_raised_where_the_response_is_awaited() -> None:
    """Whoever awaits the reply gets the error the request ended with."""
    reply = OneReply()
    reply.send(Response(error=InferError(Fault.UNAVAILABLE, "not today")))
    with pytest.raises(InferError, match="not today"):
        await reply


async def test_a_model_may_close_its_request_after_its_response() -> None:
    """One response, then a final flag alone: that is one response."""
    reply = OneReply()
    response = answer(1, final=False)
    reply.send(response)
    reply.send(Response(silent=True))
    assert await reply is response


@pytest.mark.parametrize("count", [0, 2, 3])
async def test_any_other_number_of_responses_is_an_error(count: int) -> None:
    """The caller asked for exactly one."""
    reply = OneReply()
    for number in range(count):
        reply.send(answer(number, final=False))
    reply.send(Response(silent=True))
    with pytest.raises(InferError, match=f"^expected a single response, got {count}$"):
        await reply


async def test_an_answer_without_outputs_is_an_answer() -> None:
    """Unlike a silent response, which only closes its request."""
    reply = OneReply()
    reply.send(Response())
    assert (await reply).outputs == {}


async def test_responses_after_the_caller_left_are_dropped() -> None:
    """A cancelled caller does no harm to whoever answers."""
    reply = OneReply()

    async def wait_for_reply() -> None:
        await reply

    waiting = asyncio.ensure_future(wait_for_reply())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    reply.send(answer(1))


async def test_a_stream_gives_every_response_up_to_the_final_one() -> None:
    """Responses come in order, and iteration ends after the final one."""
    reply = StreamReply()
    for number in range(3):
        reply.send(answer(number, final=number == 2))
    reply.send(answer(99))
    assert [next(iter(response.outputs)) async for response in reply] == ["0", "1", "2"]


async def test_a_reader_too_far_behind_loses_its_stream_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for a slow reader is bounded."""
    monkeypatch.setattr(reply_module, "STREAM_BACKLOG", 2)
    reply = StreamReply()
    for number in range(5):
        reply.send(answer(number, final=False))
    responses = [response async for response in reply]
    assert len(responses) == 3
    assert responses[-1].error is not None


async def test_responses_leave_in_the_order_of_their_requests() -> None:
    """A later batch that ends first waits for the earlier one."""
    line = Line()
    arrived: list[tuple[int, bool]] = []
    places = [line.reserve(Recorder(number, arrived)) for number in range(3)]
    places[2].send(answer(2))
    places[1].send(answer(1, final=False))
    assert arrived == []
    places[0].send(answer(0))
    assert arrived == [(0, True), (1, False)]
    places[1].send(Response(silent=True))
    assert arrived == [(0, True), (1, False), (1, True), (2, True)]
