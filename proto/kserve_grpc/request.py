"""From a `ModelInferRequest` to a request: typed contents or raw ones, the same for all inputs.

The order of the checks is that of Triton's `infer_handler.cc`: the parameters, the names, the inputs with
their data one by one, how outputs are wanted. What the model thinks of all this is asked later, by admission.
"""

from collections.abc import Sequence
from typing import Final

from ..bounds import MAX_TENSORS, check_number_of
from ..datatypes import datatype_of_wire
from ..errors import invalid, request_prefix
from ..message import Request
from ..output_forms import JSON_FORM, OutputForm, OutputForms
from ..schema import grpc_service_pb2 as pb
from ..shared_memory import NO_REGIONS, RegionPart, Regions, read_tensor
from ..target import Target
from ..tensor import MAX_RANK, Raw, Tensor
from .contents import read_contents
from .parameters import read_parameters
from .tensor_parameters import read_classes, read_part
from .wire import LARGE, split

Outputs = Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]

_PLAIN: Final = OutputForms()


def read_infer(body: Raw) -> tuple[pb.ModelInferRequest, Sequence[Raw]]:
    """Return a message, and its raw contents: views on the body where it is large.

    Raises protobuf's DecodeError.
    """
    if len(body) >= LARGE and (parts := split(body)) is not None:
        return pb.ModelInferRequest.FromString(parts[0]), parts[1]
    message = pb.ModelInferRequest.FromString(body)  # type: ignore[arg-type]  # any buffer, whatever stubs say
    return message, message.raw_input_contents


def decode_infer(
    message: pb.ModelInferRequest,
    target: Target,
    regions: Regions = NO_REGIONS,
    raw_contents: Sequence[Raw] | None = None,
) -> tuple[Request, OutputForms]:
    """Return the request that a message makes of a model, and how its outputs are to be rendered.

    Raw contents are used as they are given, by default as protobuf made them; what lies in shared memory is
    found by `regions`. Raises InferError.
    """
    request = Request(target.name, target.version, message.id)
    parameters = message.parameters
    empty_final = read_parameters(parameters, request) if parameters else False
    outputs = message.outputs
    if outputs:
        request.requested_outputs = _names(request, outputs)
    _read_inputs(
        request, message, regions, message.raw_input_contents if raw_contents is None else raw_contents
    )
    named = _read_forms(outputs, regions) if outputs else {}
    if named or empty_final:
        return request, OutputForms(JSON_FORM, named, empty_final)
    return request, _PLAIN


def _read_inputs(
    request: Request, message: pb.ModelInferRequest, regions: Regions, raw_given: Sequence[Raw]
) -> None:
    check_number_of("inputs", len(message.inputs), MAX_TENSORS)
    raw_contents = iter(raw_given)
    inputs = request.inputs
    for each in message.inputs:
        name = each.name
        if name in inputs:
            raise invalid(f"{request_prefix(request.id)}input '{name}' already exists in request")
        shape = tuple(each.shape)
        if len(shape) > MAX_RANK:
            check_number_of(f"dimensions in input '{name}'", len(shape), MAX_RANK)
        datatype = datatype_of_wire(each.datatype)
        if each.parameters and (part := _read_part(each, request.model_name)) is not None:
            inputs[name] = read_tensor(regions, part, datatype, shape)
            continue
        if each.HasField("contents"):
            if raw_given:
                raise invalid(
                    f"contents field must not be specified when using raw_input_contents for '{name}' for "
                    f"model '{request.model_name}'"
                )
            raw: Raw | None = read_contents(name, request.model_name, datatype, each.contents)
        else:
            raw = next(raw_contents, None)
        if raw is None:
            raise invalid(
                f"unable to find data for input tensor '{name}' for model '{request.model_name}' in request."
            )
        inputs[name] = Tensor(datatype, shape, raw)


def _read_part(tensor: pb.ModelInferRequest.InferInputTensor, model_name: str) -> RegionPart | None:
    """Return where in shared memory an input lies, None for elsewhere; raises InferError for both."""
    part = read_part(tensor.name, tensor.parameters)
    if part is not None and tensor.HasField("contents"):
        raise invalid(
            f"unexpected 'content' provided when using shared memory for input tensor '{tensor.name}' for "
            f"model '{model_name}'"
        )
    return part


def _names(request: Request, outputs: Outputs) -> tuple[str, ...]:
    check_number_of("outputs", len(outputs), MAX_TENSORS)
    names: dict[str, None] = {}
    for each in outputs:
        if each.name in names:
            raise invalid(f"{request_prefix(request.id)}output '{each.name}' already exists in request")
        names[each.name] = None
    return tuple(names)


def _read_forms(outputs: Outputs, regions: Regions) -> dict[str, OutputForm]:
    """Return the forms of the outputs that are not wanted as they are; raises InferError."""
    forms: dict[str, OutputForm] = {}
    for each in outputs:
        parameters = each.parameters
        if not parameters:
            continue
        part = read_part(each.name, parameters)
        classes = read_classes(parameters)
        if part is not None:
            if classes:
                raise invalid("output can't set both 'shared_memory_region' and 'classification'")
            forms[each.name] = OutputForm(destination=regions.destination(part))
        elif classes:
            forms[each.name] = OutputForm(classes=classes)
    return forms
