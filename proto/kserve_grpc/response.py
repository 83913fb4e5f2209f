"""From a response to a `ModelInferResponse`: the outputs, and their elements in one raw entry for each."""

from dataclasses import dataclass
from typing import Final

from ..classification import classify
from ..datatypes import Datatype
from ..errors import internal, invalid
from ..message import ParameterValue, Request, Response
from ..output_forms import OutputForms
from ..schema import grpc_service_pb2 as pb
from ..shared_memory import write_tensor
from ..target import Target, served_version
from ..tensor import Raw, Tensor
from .wire import LARGE, as_stream_response, with_raw_outputs

MAX_MESSAGE_SIZE: Final = 2**31 - 1
"""Bytes of one message: protobuf and gRPC end there."""

_FRAME: Final = 6
"""Bytes before a large entry of raw contents: its tag and its length."""

_NOTHING: Final = Tensor(Datatype.UINT8, (0,), b"")
"""What a message carries of an output that went to shared memory."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The message that answers a request: protobuf's part of it, and the elements of its tensors."""

    message: pb.ModelInferResponse
    """The message without its raw contents."""
    raw: list[Raw]

    def pieces(self) -> list[Raw]:
        """Return the message as it travels; large tensors are pieces of their own, and not copied."""
        return self._in_one_where_small(with_raw_outputs(self.message.SerializeToString(), self.raw))

    def stream_pieces(self) -> list[Raw]:
        """Return the same within a `ModelStreamInferResponse`."""
        pieces = with_raw_outputs(self.message.SerializeToString(), self.raw)
        return self._in_one_where_small(as_stream_response(pieces))

    def _in_one_where_small(self, pieces: list[Raw]) -> list[Raw]:
        if sum(map(len, self.raw)) < LARGE:
            return [b"".join(pieces)]
        return pieces


def encode_infer(target: Target, request: Request, response: Response, forms: OutputForms) -> Answer:
    """Return the answer to a request; raises InferError where an output has no such form.

    Outputs that are wanted in shared memory are written there; their raw entry is empty.
    """
    if response.error is not None:
        raise response.error
    version = str(served_version(target, request))
    answer = pb.ModelInferResponse(model_name=target.name, model_version=version, id=request.id)
    try:
        for name, value in response.parameters.items():
            _write_parameter(answer.parameters[name], value)
        outputs = _rendered(target, response, forms)
        for name, tensor in outputs:
            answer.outputs.add(name=name, datatype=tensor.datatype.wire_name, shape=tensor.shape)
    except (TypeError, ValueError) as error:  # text that is no Unicode, or an integer of more than 64 bits
        raise internal(f"response of model '{target.name}' has no protobuf form: {error}") from None
    carried = _carried(outputs, forms)
    size = sum(tensor.byte_size for tensor in carried)
    if size > MAX_MESSAGE_SIZE // 2:
        size += answer.ByteSize() + _FRAME * len(carried)
        if size > MAX_MESSAGE_SIZE:
            raise invalid(
                f"Response has byte size {size} which exceeds gRPC's byte size limit {MAX_MESSAGE_SIZE}."
            )
    return Answer(answer, [tensor.raw for tensor in carried])


def _rendered(target: Target, response: Response, forms: OutputForms) -> list[tuple[str, Tensor]]:
    """Return the outputs, classes in the place of those of which they are wanted; raises InferError."""
    if not forms.named:
        return list(response.outputs.items())
    batching = target.config.max_batch_size > 0
    return [
        (
            name,
            classify(tensor, classes, target.labels.get(name, ()), batching=batching)
            if (classes := forms.of(name).classes)
            else tensor,
        )
        for name, tensor in response.outputs.items()
    ]


def _carried(outputs: list[tuple[str, Tensor]], forms: OutputForms) -> list[Tensor]:
    """Return what the message carries of each output; raises InferError for one that fits nowhere else."""
    if not forms.named:
        return [tensor for _, tensor in outputs]
    carried: list[Tensor] = []
    for name, tensor in outputs:
        destination = forms.of(name).destination
        if destination is None:
            carried.append(tensor)
        else:
            write_tensor(name, tensor, destination)
            carried.append(_NOTHING)
    return carried


def _write_parameter(parameter: pb.InferParameter, value: ParameterValue) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int():
            parameter.int64_param = value
        case float():
            parameter.double_param = value
        case _:
            parameter.string_param = value
