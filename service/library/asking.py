"""Asking a model in its own process: arrays in, arrays out, no wire between.

Arrays are handed over as they are: the model sees the caller's memory, and the caller the model's. Whoever
writes to an array that is on its way changes what the other sees.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ...actors.clock import now
from ...actors.reply import StreamReply
from ...actors.servable import Servable, ask
from ...proto.byte_strings import encode_element
from ...proto.datatypes import Datatype, datatype_of_numpy
from ...proto.errors import invalid
from ...proto.message import Correlation, Parameters, Request, Response
from ...proto.tensor import Array, Tensor
from ..observer import LIBRARY, Observation, Observer

Inputs = Mapping[str, object]
"""Arrays, or what numpy makes one of, by the names of the inputs."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a request may say besides its inputs."""

    outputs: tuple[str, ...] = ()
    """The outputs that are wanted; empty for all."""
    parameters: Parameters = field(default_factory=dict)
    id: str = ""
    correlation: Correlation | None = None
    """The sequence that the request belongs to."""
    priority: int = 0
    timeout_us: int = 0
    """Microseconds that the request may wait in the queue; 0 for any time."""


@dataclass(frozen=True, slots=True)
class Answer(Mapping[str, Array]):
    """What a model answered: a mapping from the names of its outputs to their arrays."""

    outputs: Mapping[str, Array]
    parameters: Parameters
    model_name: str
    model_version: int

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


PLAIN: Final = RequestOptions()


async def infer(
    observer: Observer, model: Servable, inputs: Inputs, options: RequestOptions = PLAIN
) -> Answer:
    """Return the one answer of a model; raises InferError. Whoever stops waiting cancels the request."""
    request, observation = _observed(observer, model, inputs, options)
    try:
        answer = _answer(model, await ask(observation or model, request))
    except BaseException as error:
        if observation is not None:
            observation.close(error)
        raise
    if observation is not None:
        observation.close()
    return answer


async def stream(
    observer: Observer, model: Servable, inputs: Inputs, options: RequestOptions = PLAIN
) -> AsyncGenerator[Answer, None]:
    """Yield the answers of a model as they come; raises InferError.

    Whoever stops reading cancels the request.
    """
    request, observation = _observed(observer, model, inputs, options)
    reply = StreamReply()
    request.flow = reply.flow
    (observation or model).infer(request, reply)
    try:
        async for response in reply:
            if response.error is not None:
                raise response.error
            if not response.silent:
                yield _answer(model, response)
    finally:
        if not reply.is_complete:
            model.cancel(request)
        if observation is not None:
            observation.close()


def _observed(
    observer: Observer, model: Servable, inputs: Inputs, options: RequestOptions
) -> tuple[Request, Observation | None]:
    """Return the request, and its observation if it is observed."""
    received = now() if observer.active else None
    request = _request(model, inputs, options)
    return request, None if received is None else observer.begin(LIBRARY, received, request, model, ())


def _request(model: Servable, inputs: Inputs, options: RequestOptions) -> Request:
    declared = {spec.name: spec.datatype for spec in model.config.inputs}
    return Request(
        model.name,
        model.version,
        options.id,
        {name: _tensor(name, value, declared.get(name)) for name, value in inputs.items()},
        options.outputs,
        options.parameters,
        options.correlation,
        options.priority,
        options.timeout_us,
    )


def _tensor(name: str, value: object, declared: Datatype | None) -> Tensor:
    """Return a tensor over an array; what is none yet becomes one of the datatype that the model takes."""
    wanted = declared.numpy_type if declared is not None and not isinstance(value, np.ndarray) else None
    try:
        array = np.asarray(value, wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input '{name}' cannot be made an array: {error}") from None
    datatype = datatype_of_numpy(array.dtype)
    if datatype is Datatype.UINT16 and declared is Datatype.BF16:
        datatype = declared
    if datatype is Datatype.INVALID:
        raise invalid(f"input '{name}' is an array of {array.dtype}, which no tensor can hold")
    if datatype is Datatype.BYTES:
        return Tensor.from_numpy(_strings(array), datatype)
    return Tensor.from_numpy(np.ascontiguousarray(array, datatype.numpy_type).reshape(array.shape), datatype)


def _strings(array: Array) -> Array:
    """Return an array of bytes, as a model gets them from a wire."""
    strings = np.empty(array.shape, np.object_)
    strings.reshape(-1)[:] = [encode_element(each) for each in array.reshape(-1)]
    return strings


def _answer(model: Servable, response: Response) -> Answer:
    try:
        outputs = {name: tensor.numpy() for name, tensor in response.outputs.items()}
    except ValueError as error:
        raise invalid(f"an output of model '{model.name}' cannot be read: {error}") from None
    return Answer(outputs, response.parameters, model.name, model.version)
