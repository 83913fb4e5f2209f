"""The messages between a server and a worker: their kinds, and how requests and responses are spelt in them.

A message is an array: its kind, then what the comment beside the kind says. Tensors up to `INLINE` bytes
travel in the message; larger ones lie in an arena and only their place travels.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, TypeVar

import numpy as np

from ....proto.datatypes import Datatype
from ....proto.errors import Fault, InferError
from ....proto.message import Correlation, Request, Response
from ....proto.tensor import Tensor
from ....proto.trace import Trace
from .arena import Arena, ArenaFullError, Borrower, Place

RequestT = TypeVar("RequestT", bound=Request)

INLINE: Final = 16 << 10
"""Bytes up to which a tensor travels in the message: two more copies of it cost less than a block."""


class Kind(IntEnum):
    """What a message says. The server sends the first group, a worker the second."""

    SEGMENT = 0
    """From both sides: number, size; the descriptor comes beside it."""

    INITIALISE = 1
    """What the worker is to serve: see `worker.Assignment`; the descriptor of the board comes beside it."""
    COMPLETE = 2
    """As `INITIALISE`, and the configuration as JSON, to be completed."""
    BATCH = 3
    """Number, rows, requests."""
    ANSWER = 4
    """Number of an `ASK`, response."""
    RESULT = 5
    """Number of a `CALL`, what it returned, its error or None."""
    CHECK = 6
    """Number; asks the model whether it is ready."""
    FORGET = 7
    """Correlation id and slot of a sequence that was abandoned."""
    CLOSE = 8
    """Finalise the model, and end."""

    READY = 16
    """The model is initialised; whether it has something to say about its readiness."""
    COMPLETED = 17
    """The completed configuration as JSON, or None."""
    FAILED = 18
    """Initialising or completing failed: error."""
    RETURNED = 19
    """Number of a batch, when `execute` began and ended, error or None, responses, rows that come again."""
    RESPONSE = 20
    """Number of a batch, response; before or after it returned."""
    ASK = 21
    """Number, request to another model, whether it may have many responses, (batch, row) of a trace."""
    WITHDRAW = 22
    """Number of an `ASK`."""
    CALL = 23
    """Number, name and arguments of a `Service`; the number is 0 where no result is wanted."""
    LOG = 24
    """Level, text, file, line."""
    CHECKED = 25
    """Number of a `CHECK`, truth value."""
    WAIT = 26
    """Number, batch, row; the result comes when there is room for more responses to that request."""
    CLOSED = 27
    """The model is finalised."""


Spelt = list[Any]
NO_MARK: Final = -1


class MalformedError(ValueError):
    """A message whose parts are not what its kind says."""


def spell_error(error: InferError) -> Spelt:
    """Return an error as it travels."""
    return [error.fault.name, error.message]


def read_error(spelt: Sequence[Any]) -> InferError:
    """Return the error that was sent."""
    fault, message = spelt
    return InferError(Fault[fault], str(message))


def spell_tensors(tensors: Mapping[str, Tensor], arena: Arena) -> Spelt:
    """Return tensors as they travel, large ones copied into the arena; raises ArenaFullError."""
    spelt: Spelt = []
    try:
        for name, tensor in tensors.items():
            spelt.append(_spell_tensor(name, tensor, arena))
    except ArenaFullError:
        take_back(spelt, arena)
        raise
    return spelt


def take_back(spelt: Spelt | Place, arena: Arena) -> None:
    """Give up what was spelt and will not be sent: its blocks are free again."""
    if isinstance(spelt, Place):
        arena.take_back(spelt)
    elif isinstance(spelt, list):
        for part in spelt:
            take_back(part, arena)


def read_tensors(spelt: Sequence[Any], borrower: Borrower, make: Callable[..., Tensor]) -> dict[str, Tensor]:
    """Return the tensors that were sent; `make` makes those in the arena. Raises MalformedError."""
    return {tensor[0]: _read_tensor(tensor, borrower, make) for tensor in spelt}


def spell_request(request: Request, arena: Arena, mark: int = NO_MARK) -> Spelt:
    """Return a request as it travels; the mark is the one that tells that it was cancelled."""
    correlation = request.correlation
    return [
        request.model_name,
        request.model_version,
        request.id,
        spell_tensors(request.inputs, arena),
        request.requested_outputs,
        request.parameters,
        None if correlation is None else [correlation.id, correlation.start, correlation.end],
        request.priority,
        request.timeout_us,
        mark,
        None if request.trace is None else [request.trace.context],
        request.flow is not None,
    ]


def read_request(
    spelt: Sequence[Any],
    borrower: Borrower,
    make_tensor: Callable[..., Tensor] = Tensor,
    trace: Trace | None = None,
    make: type[RequestT] = Request,  # type: ignore[assignment] # mypy knows no defaults of type variables
) -> RequestT:
    """Return the request that was sent, made by `make`; raises MalformedError."""
    name, version, identifier, inputs, outputs, parameters, correlation, priority, timeout, *_ = spelt
    return make(
        name,
        version,
        identifier,
        read_tensors(inputs, borrower, make_tensor),
        tuple(outputs),
        parameters,
        None if correlation is None else Correlation(*correlation),
        priority,
        timeout,
        trace=trace,
    )


def spell_response(row: int, response: Response, arena: Arena) -> Spelt:
    """Return a response as it travels; raises ArenaFullError."""
    error = response.error
    return [
        row,
        spell_tensors(response.outputs, arena),
        response.parameters,
        None if error is None else spell_error(error),
        response.final,
        response.silent,
    ]


def read_response(
    spelt: Sequence[Any], borrower: Borrower, make_tensor: Callable[..., Tensor] = Tensor
) -> tuple[int, Response]:
    """Return the row and the response that were sent; raises MalformedError."""
    row, outputs, parameters, error, final, silent = spelt
    return row, Response(
        read_tensors(outputs, borrower, make_tensor),
        parameters,
        None if error is None else read_error(error),
        final,
        silent,
    )


def _spell_tensor(name: str, tensor: Tensor, arena: Arena) -> Spelt:
    datatype = tensor.datatype
    if tensor.byte_size <= INLINE:
        return [name, datatype.value, tensor.shape, tensor.raw]
    if datatype is Datatype.BYTES:
        place = arena.put(np.frombuffer(tensor.raw, np.uint8))
    else:
        place = arena.put(tensor.numpy())
    return [name, datatype.value, tensor.shape, place]


def _read_tensor(spelt: Sequence[Any], borrower: Borrower, make: Callable[..., Tensor]) -> Tensor:
    _, number, shape, elements = spelt
    datatype = _DATATYPES[number]
    shape = tuple(shape)
    if type(elements) is list:
        size = elements[2]
        tensor = make(datatype, shape, borrower.borrow(Place(*elements)))
    else:
        size = len(elements)
        tensor = Tensor(datatype, shape, elements)
    if datatype.item_size and tensor.element_count * datatype.item_size != size:
        raise MalformedError(f"{size} bytes are no {tensor!r}")
    return tensor


_DATATYPES: Final[Mapping[int, Datatype]] = {datatype.value: datatype for datatype in Datatype}
