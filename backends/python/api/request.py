"""`InferenceRequest`: what model code is asked, and what it asks other models itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from ....proto.message import LATEST, Correlation, Request
from ..promise import Awaited
from .caller import Caller, find_caller
from .calls import ResponseIterator, ask, ask_later, ask_many, ask_many_later
from .errors import TritonModelException
from .memory import PreferredMemory
from .names import EXTENSION_MODULE
from .response import InferenceResponse, Parameters, check_parameters
from .sender import InferenceResponseSender
from .tensor import Tensor
from .trace import InferenceTrace

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START: Final = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END: Final = 2
TRITONSERVER_REQUEST_RELEASE_ALL: Final = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE: Final = 2


class InferenceRequest:
    """A request that model code makes, to ask another model."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("_caller", "_flags", "_inputs", "_sender", "_trace", "release_flags", "request")

    request: Request
    """What was asked; of a request that model code makes all but the inputs."""
    release_flags: int
    """What becomes of the request when `execute` returns."""
    _caller: Caller | None
    """Whose code made the request; None where the request came from outside."""
    _flags: int | None
    """What `set_flags` said; None where the request itself tells."""
    _inputs: list[Tensor] | None
    _sender: InferenceResponseSender | None

    def __init__(  # noqa: PLR0913 - the signature is Triton's
        self,
        *,
        inputs: Sequence[Tensor],
        requested_output_names: Sequence[str | bytes],
        model_name: str | bytes,
        model_version: int = LATEST,
        request_id: str | bytes = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        _check_types(
            {
                "requested_output_names": (requested_output_names, (list, tuple)),
                "model_name": (model_name, (str, bytes)),
                "model_version": (model_version, int),
                "request_id": (request_id, (str, bytes)),
                "flags": (flags, int),
                "timeout": (timeout, int),
            }
        )
        model_name, request_id = _text(model_name), _text(request_id)
        whose = f"for request with id '{request_id}' and model name '{model_name}' should not be empty."
        if any(tensor is None for tensor in inputs):
            raise TritonModelException(f"Input tensor {whose}")
        for name in requested_output_names:
            _check_types({"requested_output_names": (name, (str, bytes))})
            if not name:
                raise TritonModelException(f"Requested output name {whose}")
        if correlation_id is None:
            raise TypeError("InferenceRequest: correlation_id must not be None")
        if not isinstance(correlation_id, int | str):
            raise TritonModelException("Correlation ID must be integer or string")
        if timeout < 0 or flags < 0:
            raise TypeError("InferenceRequest: neither timeout nor flags may be negative")
        self.request = Request(
            model_name,
            model_version,
            request_id,
            {},
            tuple(map(_text, requested_output_names)),
            check_parameters(parameters) if parameters else {},
            Correlation(correlation_id) if correlation_id else None,
            timeout_us=timeout,
        )
        self.release_flags = TRITONSERVER_REQUEST_RELEASE_ALL
        self._caller = find_caller()
        self._inputs = list(inputs)
        self._flags = flags
        self._trace = trace or InferenceTrace()
        self._sender = InferenceResponseSender(None)

    def inputs(self) -> list[Tensor]:
        """Return the input tensors; the same objects each time."""
        if self._inputs is None:
            self._inputs = [Tensor.of_input(*each) for each in self.request.inputs.items()]
        return self._inputs

    def request_id(self) -> str:
        """Return what the client calls this request."""
        return self.request.id

    def correlation_id(self) -> int | str:
        """Return the sequence that the request belongs to, 0 if to none."""
        return self.request.correlation.id if self.request.correlation else 0

    def requested_output_names(self) -> list[str]:
        """Return the names of the outputs that are wanted, sorted, each once."""
        return sorted(set(self.request.requested_outputs))

    def flags(self) -> int:
        """Return whether the request starts or ends a sequence, as a sum of flags."""
        if self._flags is not None:
            return self._flags
        correlation = self.request.correlation
        if correlation is None:
            return 0
        start = TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if correlation.start else 0
        return start | (TRITONSERVER_REQUEST_FLAG_SEQUENCE_END if correlation.end else 0)

    def set_flags(self, flags: int) -> None:
        """Say otherwise whether the request starts or ends a sequence."""
        self._flags = flags

    def timeout(self) -> int:
        """Return the microseconds that the request may wait, 0 for any time."""
        return self.request.timeout_us

    def parameters(self) -> str:
        """Return the parameters of the request, as JSON."""
        return json.dumps(self.request.parameters, ensure_ascii=False, separators=(",", ":"))

    def trace(self) -> InferenceTrace:
        """Return the trace that the request is part of."""
        return self._trace

    def is_cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more; may change from one call to the next."""
        return self.request.cancelled

    def get_response_sender(self) -> InferenceResponseSender:
        """Return the sender of this request; the same each time."""
        return cast("InferenceResponseSender", self._sender)

    def set_release_flags(self, flags: int) -> None:
        """Say what becomes of the request when `execute` returns."""
        self.release_flags = flags

    def exec(
        self,
        decoupled: bool = False,  # noqa: FBT001, FBT002 - the signature is Triton's
    ) -> InferenceResponse | ResponseIterator:
        """Ask the model and wait; raises TritonModelException where the caller is not being served."""
        return (ask_many if decoupled else ask)(self._caller, self._outgoing())

    def async_exec(
        self,
        decoupled: bool = False,  # noqa: FBT001, FBT002 - the signature is Triton's
    ) -> Awaited[InferenceResponse] | Awaited[ResponseIterator]:
        """Ask the model and let the running coroutine await the answer; raises as `exec` does."""
        return (ask_many_later if decoupled else ask_later)(self._caller, self._outgoing())

    def _outgoing(self) -> Request:
        """Return what goes to the other model: the inputs and flags as they are now."""
        asked = self.request
        correlation = asked.correlation
        if correlation is not None:
            flags = self.flags()
            correlation = Correlation(
                correlation.id,
                bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
                bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_END),
            )
        return Request(
            asked.model_name,
            asked.model_version,
            asked.id,
            {tensor.label: tensor.as_wire() for tensor in self.inputs()},
            asked.requested_outputs,
            asked.parameters,
            correlation,
            asked.priority,
            asked.timeout_us,
            trace=self._trace.source,
        )


def _text(given: str | bytes) -> str:
    """Return a text; an element of a BYTES tensor is one, too, as in Triton's bindings."""
    return given.decode() if isinstance(given, bytes) else given


def _check_types(given: Mapping[str, tuple[object, type | tuple[type, ...]]]) -> None:
    """Raise TypeError for an argument, told by its name, that is not of its type."""
    for name, (value, wanted) in given.items():
        if not isinstance(value, wanted):
            raise TypeError(f"InferenceRequest: {name} must not be {value!r}")
