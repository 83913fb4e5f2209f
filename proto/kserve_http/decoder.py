"""A decoder that remembers: a client that asks the same thing of other tensors sends the same JSON again.

Remembered are heads, byte for byte, of requests whose tensors all lie behind the JSON: for these the head
alone says what is asked, and where each tensor begins and ends. What depends on more than the head, tensors
in the JSON or in shared memory, is read anew each time. The memory is bounded and forgets everything when it
is full.
"""

from dataclasses import dataclass
from typing import Final

from ..datatypes import Datatype
from ..message import Correlation, Parameters, Request
from ..output_forms import OutputForms
from ..shared_memory import NO_REGIONS, Regions
from ..target import Target
from ..tensor import Shape, Tensor
from .request import decode_infer

REMEMBERED: Final = 1024
MAX_REMEMBERED_HEAD: Final = 2048
"""Bytes of JSON that are remembered."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What a head says: the request but for its target and the bytes of its tensors."""

    size: int
    """Bytes of the whole body."""
    inputs: tuple[tuple[str, Datatype, Shape, int, int], ...]
    """Of each input name, datatype and shape, and where in the body it begins and ends."""
    id: str
    requested_outputs: tuple[str, ...]
    parameters: Parameters
    correlation: Correlation | None
    priority: int
    timeout_us: int
    forms: OutputForms


class Decoder:
    """Makes requests of bodies, of those whose heads it remembers in no time."""

    __slots__ = ("_known", "_max_input_size")

    def __init__(self, max_input_size: int) -> None:
        self._max_input_size = max_input_size
        self._known: dict[bytes, _Pattern] = {}

    def decode(
        self, body: bytes, json_length: int | None, target: Target, regions: Regions = NO_REGIONS
    ) -> tuple[Request, OutputForms]:
        """Return the request that a body makes of a model; as `decode_infer`, which reads what is new."""
        if not json_length or json_length > MAX_REMEMBERED_HEAD:
            return decode_infer(body, json_length, target, self._max_input_size, regions)
        head = body[:json_length]
        known = self._known.get(head)
        if known is not None and known.size == len(body):
            return _request(known, body, target), known.forms
        request, forms = decode_infer(body, json_length, target, self._max_input_size, regions)
        pattern = _pattern(request, forms, body)
        if pattern is not None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[head] = pattern
        return request, forms


def _request(known: _Pattern, body: bytes, target: Target) -> Request:
    view = memoryview(body)
    return Request(
        target.name,
        target.version,
        known.id,
        {
            name: Tensor(datatype, shape, view[start:end])
            for name, datatype, shape, start, end in known.inputs
        },
        known.requested_outputs,
        known.parameters,
        known.correlation,
        known.priority,
        known.timeout_us,
    )


def _pattern(request: Request, forms: OutputForms, body: bytes) -> _Pattern | None:
    """Return what there is to remember of a request; None where its head alone does not say it all."""
    if any(form.destination is not None for form in forms.named.values()):
        return None
    inputs: list[tuple[str, Datatype, Shape, int, int]] = []
    end = len(body)
    for name, tensor in reversed(request.inputs.items()):
        if not tensor.lies_in(body):
            return None
        start = end - tensor.byte_size  # they lie side by side, the last one at the end
        inputs.append((name, tensor.datatype, tensor.shape, start, end))
        end = start
    return _Pattern(
        len(body),
        tuple(reversed(inputs)),
        request.id,
        request.requested_outputs,
        request.parameters,
        request.correlation,
        request.priority,
        request.timeout_us,
        forms,
    )
