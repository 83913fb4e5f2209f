"""ModelStreamInfer: any number of requests to any models over one call, answered as Triton answers them.

The bookkeeping is plain code: a request becomes a `_Slot`, which is the address its model answers to; what is
rendered waits in the outbox. Where the engine can, requests come and responses go without a task; where they
have to wait, one task reads and the call's own task writes. Requests to plain models and requests that failed
at the door are answered in the order in which they came; those to decoupled models as their responses come.
Memory is bounded on both sides: no more is read while too much is unanswered or unsent, and a model that is
too far ahead of its client waits where it sends. Where a model does not, the stream is given up.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from ...actors.clock import now
from ...actors.servable import Servable
from ...backends.credit import Credit
from ...proto import kserve_grpc
from ...proto.errors import Fault, InferError, internal
from ...proto.message import Flow, Request, Response
from ...proto.model_version import parse_model_version
from ...proto.output_forms import OutputForms
from ...proto.schema import grpc_service_pb2 as pb
from ...proto.shared_memory import NO_REGIONS
from ..doorway import Doorway
from ..observer import GRPC, Observation
from ..shared_memory import Loan
from .call import Call, ClientGoneError, Piece
from .forwarding import Forward
from .rpc import Gate, as_infer_error, as_text, read_infer, shutting_down, written

Message = Sequence[Piece]
"""A message in its pieces."""

MAX_OPEN: Final = 1024
"""Requests of one stream that are unanswered, and responses that are unsent, before no more is read."""
MAX_OPEN_BYTES: Final = 256 << 20
"""Bytes of responses that are unsent before no more is read."""
MAX_UNSENT: Final = 16_384
"""Responses that may wait for a client that does not read."""
MAX_UNSENT_BYTES: Final = 1 << 30
"""Bytes of those."""
FINAL: Final = "triton_final_response"
ERRORS_END_STREAM: Final = "triton_grpc_error"
"""The metadata by which a client asks that the first error of a model end the stream."""


class OpenStreams:
    """All streams of a server, so that they can be told to come to an end."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: set[Stream] = set()

    def close(self) -> None:
        """Let every stream end after what it has taken."""
        for stream in tuple(self._streams):
            stream.close()

    async def serve(self, stream: "Stream") -> InferError | None:
        """Serve a stream to its end; return the error it ended with."""
        self._streams.add(stream)
        try:
            return await stream.serve()
        finally:
            self._streams.discard(stream)


class StreamInference:
    """The handler of ModelStreamInfer."""

    def __init__(
        self, doorway: Doorway, gate: Gate, streams: OpenStreams, forward: Forward | None = None
    ) -> None:
        self._doorway = doorway
        self._gate = gate
        self._streams = streams
        self._forward = forward

    async def infer(self, call: Call) -> None:
        """Answer every request of a stream; raises the InferError that it ends with."""
        with self._gate:
            error = await self._streams.serve(Stream(self._doorway, call, self._forward))
        if error is not None:
            raise error


class _Slot:
    """The place of one request in its stream, and the address that its model answers to."""

    __slots__ = (
        "answered",
        "asked",
        "ended",
        "forms",
        "loan",
        "message",
        "model",
        "observation",
        "ordered",
        "ready",
        "stream",
    )

    def __init__(self, stream: "Stream") -> None:
        self.stream = stream
        self.message: pb.ModelInferRequest = pb.ModelInferRequest()
        self.model: Servable | None = None
        self.asked: Request | None = None
        self.forms = OutputForms()
        self.loan: Loan | None = None
        self.observation: Observation | None = None
        self.ordered = True
        """Whether those that came later wait for this one."""
        self.ready: list[Message | InferError] = []
        """What waits for its turn."""
        self.answered = False
        self.ended = False

    def send(self, response: Response) -> None:
        """Take one response of the model."""
        self.stream.take(self, response)

    def give_back(self) -> None:
        """End the use of shared memory."""
        if self.loan is not None:
            self.loan.give_back()


class Stream:
    """One call of ModelStreamInfer."""

    def __init__(self, doorway: Doorway, call: Call, forward: Forward | None = None) -> None:
        self._repository = doorway.repository
        self._observer = doorway.observer
        self._memory = doorway.shared_memory
        self._call = call
        self._forward = forward
        metadata = dict(call.metadata)
        self._errors_end_stream = metadata.get(ERRORS_END_STREAM) == "true"
        self._open: set[_Slot] = set()
        """Requests without their final response."""
        self._line: deque[_Slot] = deque()
        """Requests that are answered in order, as far as they are not."""
        self._outbox: deque[tuple[Message | InferError, Flow | None]] = deque()
        """What waits to be written, with the flow that hears of it."""
        self._unsent = 0
        self._unsent_bytes = 0
        self._reader: asyncio.Task[None] | None = None
        self._all_read = False
        self._ending: InferError | None = None
        self._is_writing = False
        """Whether the task that writes waits for the client."""
        self._to_write = asyncio.Event()
        self._may_read = asyncio.Event()

    async def serve(self) -> InferError | None:
        """Read and write until all is answered; return the error that ends the stream."""
        self._call.hand_to(self._take_now)
        try:
            async with asyncio.TaskGroup() as group:
                self._reader = group.create_task(self._read())
                error = await self._write()
                self._reader.cancel()
        finally:
            for slot in tuple(self._open):
                self._cancel(slot)
        return error

    def close(self) -> None:
        """Take no more requests and end when those that were taken are answered."""
        self._ending = shutting_down()
        self._all_read = True
        if self._reader is not None:
            self._reader.cancel()
        self._to_write.set()

    async def _read(self) -> None:
        try:
            async for body in self._call.messages():
                self._accept(body)
                while self._is_full:
                    self._may_read.clear()
                    await self._may_read.wait()
        except ClientGoneError:
            pass  # the call is cancelled
        self._all_read = True
        self._to_write.set()

    def _take_now(self, body: Piece) -> bool:
        """Take a request that need not wait; return whether it was taken."""
        if self._all_read or self._is_full:
            return False
        self._accept(body)
        return True

    @property
    def _is_full(self) -> bool:
        return len(self._open) + self._unsent >= MAX_OPEN or self._unsent_bytes >= MAX_OPEN_BYTES

    async def _write(self) -> InferError | None:
        while True:
            while self._outbox:
                item, flow = self._outbox.popleft()
                if isinstance(item, InferError):
                    return item
                self._is_writing = True
                try:
                    await self._call.write(*item)
                except ClientGoneError:
                    return InferError(Fault.CANCELLED, "")
                self._is_writing = False
                self._wrote(item, flow)
            if self._all_read and not self._open:
                return self._ending
            self._to_write.clear()
            await self._to_write.wait()

    def _write_at_once(self) -> None:
        """Write what need not wait, and leave the rest to the task that writes."""
        outbox = self._outbox
        while outbox and not self._is_writing:
            item, flow = outbox[0]
            if isinstance(item, InferError) or not self._call.write_at_once(item):
                break
            outbox.popleft()
            self._wrote(item, flow)
        if outbox or (self._all_read and not self._open):
            self._to_write.set()

    def _wrote(self, message: Message, flow: Flow | None) -> None:
        self._unsent -= 1
        self._unsent_bytes -= _size(message)
        if flow is not None:
            flow.give_back()
        self._may_read.set()

    def _accept(self, body: Piece) -> None:
        """Leave a request with its model, or answer with the error that keeps it from there."""
        slot = _Slot(self)
        self._line.append(slot)
        try:
            slot.message, raw_contents = read_infer(body)
            self._post(slot, raw_contents)
        except Exception as error:  # noqa: BLE001 - an error ends its own request and nothing else
            if slot not in self._line:
                self._line.append(slot)
            self._open.discard(slot)
            slot.give_back()
            slot.ordered = slot.ended = True
            told = pb.ModelStreamInferResponse(error_message=as_text(as_infer_error(error).message))
            told.infer_response.id = slot.message.id
            self._put(slot, (written(told),))

    def _post(self, slot: _Slot, raw_contents: Sequence[Piece]) -> None:
        received = now() if self._observer.active else None
        message = slot.message
        if self._forward is not None:
            self._forward(message, self._call.metadata)
        model = self._repository.find(message.model_name, parse_model_version(message.model_version))
        slot.loan = self._memory.lend()
        slot.asked, slot.forms = kserve_grpc.decode_infer(
            message, model, slot.loan or NO_REGIONS, raw_contents
        )
        slot.model = model
        if model.config.decoupled:
            slot.ordered = False
            slot.asked.flow = Credit()
            self._line.pop()
        self._open.add(slot)
        if received is not None:
            slot.observation = self._observer.begin(GRPC, received, slot.asked, model, self._call.metadata)
        (slot.observation or model).infer(slot.asked, slot)

    def take(self, slot: _Slot, response: Response) -> None:
        """Take a response for a slot; never waits and never fails its sender."""
        if slot not in self._open:
            return
        began = now() if slot.observation is not None else 0
        if response.final:
            self._open.discard(slot)
            slot.ended = True
            self._may_read.set()
        rendered = self._render(slot, response)
        if response.final:
            slot.give_back()
        if slot.observation is not None:
            slot.observation.sent(began)
            if response.final:
                slot.observation.close()
        if rendered is not None:
            asked = slot.asked
            self._put(slot, rendered, None if asked is None or response.silent else asked.flow)
        else:
            self._advance()
        if self._unsent > MAX_UNSENT or self._unsent_bytes > MAX_UNSENT_BYTES:
            self._give_up()

    def _put(self, slot: _Slot, item: Message | InferError, flow: Flow | None = None) -> None:
        """Let something that was rendered wait for its turn."""
        self._unsent += 1
        if not isinstance(item, InferError):
            self._unsent_bytes += _size(item)
        if slot.ordered:
            slot.ready.append(item)
        else:
            self._outbox.append((item, flow))
        self._advance()

    def _advance(self) -> None:
        """Move to the outbox whatever has come to its turn."""
        line = self._line
        while line:
            head = line[0]
            self._outbox.extend((item, None) for item in head.ready)
            head.ready.clear()
            if not head.ended:
                break
            line.popleft()
        self._write_at_once()

    def _render(self, slot: _Slot, response: Response) -> Message | InferError | None:
        """Return what is sent for a response; nothing for a final flag that nobody wants to see."""
        if response.error is not None:
            return self._render_error(slot, response.error, final=response.final)
        if not response.silent:
            slot.answered = True
            return self._render_outputs(slot, response)
        if slot.ordered:
            if slot.answered:
                return None
            return self._render_error(slot, internal("expected a single response, got 0"), final=True)
        if not slot.forms.empty_final or not response.final:
            return None
        told = pb.ModelStreamInferResponse(infer_response=_without_outputs(slot.message))
        told.infer_response.parameters[FINAL].bool_param = True
        return (written(told),)

    def _render_outputs(self, slot: _Slot, response: Response) -> Message | InferError:
        assert slot.model is not None
        assert slot.asked is not None
        try:
            answer = kserve_grpc.encode_infer(slot.model, slot.asked, response, slot.forms)
            answer.message.parameters[FINAL].bool_param = response.final
            return answer.stream_pieces()
        except Exception as error:  # noqa: BLE001 - an error ends its own response and nothing else
            return self._render_error(slot, as_infer_error(error), final=response.final)

    def _render_error(self, slot: _Slot, error: InferError, *, final: bool) -> Message | InferError:
        if self._errors_end_stream:
            return error
        told = pb.ModelStreamInferResponse(
            error_message=as_text(error.message), infer_response=_without_outputs(slot.message)
        )
        told.infer_response.parameters[FINAL].bool_param = final
        return (written(told),)

    def _give_up(self) -> None:
        """End the stream at once, with an error in the place of all that was not read."""
        waiting = f"{self._unsent} responses of {self._unsent_bytes} bytes wait to be read"
        for slot in tuple(self._open):
            self._cancel(slot)
        self._outbox.clear()
        self._outbox.append((InferError(Fault.UNAVAILABLE, f"{waiting}; the stream was given up"), None))
        self._to_write.set()

    def _cancel(self, slot: _Slot) -> None:
        self._open.discard(slot)
        slot.give_back()
        if slot.model is not None and slot.asked is not None:
            slot.model.cancel(slot.asked)
        if slot.observation is not None:
            slot.observation.close()


def _size(message: Message) -> int:
    return sum(map(len, message))


def _without_outputs(message: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """Return what a response without outputs tells: whom it is for, in the words of the request."""
    return pb.ModelInferResponse(
        id=message.id, model_name=message.model_name, model_version=message.model_version
    )
