"""From a response to the body of an answer: a JSON head, and behind it the binary tensors, not joined.

The members of the head stand in Triton's order, and so do the binary tensors: in the order of the outputs.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from ..classification import classify
from ..errors import internal
from ..message import ParameterValue, Request, Response
from ..output_forms import OutputForms
from ..shared_memory import write_tensor
from ..target import Target, served_version
from ..tensor import Raw
from .write_data import WRITE_OPTIONS, write_data, write_number


@dataclass(frozen=True, slots=True)
class Answer:
    """A body in pieces, to be sent one after the other."""

    head: bytes
    blobs: list[Raw]
    json_length: int | None
    """Bytes of JSON, to be told in a header; None where nothing is behind it, and no header is sent."""

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        return "application/json" if self.json_length is None else "application/octet-stream"


def encode_infer(target: Target, request: Request, response: Response, forms: OutputForms) -> Answer:
    """Return the body that answers a request; raises InferError where an output has no such form.

    Outputs that are wanted in shared memory are written there.
    """
    if response.error is not None:
        raise response.error
    head: dict[str, Any] = {}
    if request.id:
        head["id"] = request.id
    head["model_name"] = target.name
    head["model_version"] = str(served_version(target, request))
    if response.parameters:
        head["parameters"] = {name: _written(value) for name, value in response.parameters.items()}
    outputs: list[dict[str, Any]] = []
    head["outputs"] = outputs
    blobs: list[Raw] = []
    for name, tensor in response.outputs.items():
        form = forms.of(name)
        if form.classes:
            batching = target.config.max_batch_size > 0
            tensor = classify(tensor, form.classes, target.labels.get(name, ()), batching=batching)  # noqa: PLW2901
        output: dict[str, Any] = {"name": name, "datatype": tensor.datatype.wire_name, "shape": tensor.shape}
        if form.binary:
            raw = tensor.raw
            size = tensor.byte_size
            output["parameters"] = {"binary_data_size": size}
            if size:
                blobs.append(raw)
        elif form.destination is not None:
            write_tensor(name, tensor, form.destination)
        else:
            output["data"] = write_data(name, tensor)
        outputs.append(output)
    written = _write(head)
    return Answer(written, blobs, len(written) if blobs else None)


def _written(value: ParameterValue) -> object:
    return write_number(value) if isinstance(value, float) else value


def _write(head: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(head, option=WRITE_OPTIONS)
    except orjson.JSONEncodeError as error:  # text that is no Unicode, or an integer of more than 64 bits
        raise internal(f"response of model '{head['model_name']}' has no JSON form: {error}") from None
