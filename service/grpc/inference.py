"""ModelInfer: one request, one response, and a callback between them rather than a task."""

import asyncio
from collections.abc import Callable, Sequence

from ...actors.clock import now
from ...actors.reply import SoleReply
from ...actors.servable import Servable
from ...proto import kserve_grpc
from ...proto.errors import Fault, InferError
from ...proto.message import Request, Response
from ...proto.model_version import parse_model_version
from ...proto.output_forms import OutputForms
from ...proto.shared_memory import NO_REGIONS
from ..doorway import Doorway
from ..observer import GRPC, Observation
from ..shared_memory import Loan
from .call import Metadata, Piece
from .forwarding import Forward
from .rpc import Gate, as_infer_error, read_infer

Deliver = Callable[[Sequence[Piece] | InferError], None]
"""Takes the message that answers a request in its pieces, or the error that does."""


class Inference:
    """What asks models."""

    def __init__(self, doorway: Doorway, gate: Gate, forward: Forward | None = None) -> None:
        self._repository = doorway.repository
        self._observer = doorway.observer
        self._memory = doorway.shared_memory
        self._gate = gate
        self._forward = forward

    def ask(self, body: Piece, metadata: Metadata, deliver: Deliver) -> "InferCall":
        """Leave a request with its model; `deliver` is called with the answer, unless it is cancelled.

        Raises InferError for what keeps it from the model.
        """
        gate = self._gate
        gate.enter()
        try:
            return self._ask(body, metadata, deliver)
        except BaseException:
            gate.leave()
            raise

    def _ask(self, body: Piece, metadata: Metadata, deliver: Deliver) -> "InferCall":
        received = now() if self._observer.active else None
        message, raw_contents = read_infer(body)
        if self._forward is not None:
            self._forward(message, metadata)
        model = self._repository.find(message.model_name, parse_model_version(message.model_version))
        if model.config.decoupled:
            raise InferError(
                Fault.UNSUPPORTED,
                "ModelInfer RPC doesn't support models with decoupled transaction policy",
            )
        loan = self._memory.lend()
        try:
            asked, forms = kserve_grpc.decode_infer(message, model, loan or NO_REGIONS, raw_contents)
            call = InferCall(self._gate, model, loan, deliver)
            if received is not None:
                call.observation = self._observer.begin(GRPC, received, asked, model, metadata)
            call.asked = asked
            call.forms = forms
            (call.observation or model).infer(asked, call)
        except BaseException:
            if loan is not None:
                loan.give_back()
            raise
        return call


class InferCall(SoleReply):
    """One request: the address that its model answers to."""

    __slots__ = ("_deliver", "_gate", "_loan", "_model", "asked", "forms", "observation")

    asked: Request
    forms: OutputForms

    def __init__(self, gate: Gate, model: Servable, loan: Loan | None, deliver: Deliver) -> None:
        super().__init__()
        self._gate = gate
        self._model = model
        self._loan = loan
        self._deliver = deliver
        self.observation: Observation | None = None

    def cancel(self) -> None:
        """Hear that nobody waits for the answer any more; harmless when it was delivered already."""
        if self.ended:
            return
        self.ended = True
        self._close()
        self._model.cancel(self.asked)
        if self.observation is not None:
            self.observation.close(asyncio.CancelledError())

    def tell(self, response: Response) -> None:
        """Render the one response and deliver it."""
        answer: Sequence[Piece] | InferError
        try:
            began = now() if self.observation is not None else 0
            answer = kserve_grpc.encode_infer(self._model, self.asked, response, self.forms).pieces()
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            answer = as_infer_error(error)
        observation = self.observation
        if observation is not None:
            if isinstance(answer, InferError):
                observation.close(answer)
            else:
                observation.sent(began)
                observation.close()
        self._close()
        self._deliver(answer)

    def _close(self) -> None:
        if self._loan is not None:
            self._loan.give_back()
        self._gate.leave()
