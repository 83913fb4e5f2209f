"""From the body of `POST …/infer` to a request: a JSON head, and behind it the binary tensors, side by side.

Tensors of the binary tail are views on the body; those in the JSON become arrays. The order of the checks is
that of Triton's `http_server.cc`: the ID, the parameters, the inputs one by one with their bytes, whether
bytes are left over, the outputs. What the model thinks of all this is asked later, by admission.
"""

from typing import Any, Final

from ..bounds import MAX_TENSORS, check_number_of
from ..datatypes import datatype_of_wire
from ..errors import invalid, request_prefix
from ..message import Request
from ..output_forms import BINARY_FORM, JSON_FORM, OutputForm, OutputForms
from ..shared_memory import NO_REGIONS, RegionPart, Regions, read_tensor
from ..sizes import MAX_SIZE
from ..target import Target
from ..tensor import MAX_RANK, Raw, Shape, Tensor
from .document import DEFAULT_MAX_INPUT_SIZE, check_document_size, parse_document
from .members import (
    JsonObject,
    array_member,
    as_boolean,
    as_string,
    as_unsigned,
    mismatch,
    missing,
    object_or_empty,
    string_member,
)
from .parameters import read_parameters
from .raw_request import decode_raw_request
from .read_data import read_data

_SOURCES: Final = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But"
)


def decode_infer(
    body: Raw,
    json_length: int | None,
    target: Target,
    max_input_size: int = DEFAULT_MAX_INPUT_SIZE,
    regions: Regions = NO_REGIONS,
) -> tuple[Request, OutputForms]:
    """Return the request that a body makes of a model, and how its outputs are to be rendered.

    `json_length` is the length of the JSON head: None where all is JSON, 0 where all is the one input's data.
    An empty body is such data, too. What lies in shared memory is found by `regions`. Raises InferError.
    """
    size = len(body)
    length = size if json_length is None else json_length
    if length == 0:
        return decode_raw_request(body, target, max_input_size), OutputForms(BINARY_FORM)
    check_document_size(length, max_input_size)
    if length > size:
        raise invalid(f"unexpected size for request JSON, expecting {length - size} more bytes")
    view = memoryview(body)
    document = parse_document(body if length == size else view[:length])
    members = object_or_empty(document)
    request = Request(target.name, target.version)
    if "id" in members:
        request.id = as_string(members["id"], "Unable to parse 'id'")
    default = JSON_FORM
    if "parameters" in members and read_parameters(members["parameters"], request):
        default = BINARY_FORM
    _read_inputs(request, array_member(members, "inputs"), view[length:], max_input_size, regions)
    named = _read_outputs(request, array_member(members, "outputs"), regions) if "outputs" in members else {}
    return request, OutputForms(default, named)


def _read_inputs(
    request: Request, inputs: list[Any], tail: memoryview, max_input_size: int, regions: Regions
) -> None:
    check_number_of("inputs", len(inputs), MAX_TENSORS)
    offset = 0
    for each in inputs:
        members = object_or_empty(each)
        parameters = object_or_empty(members.get("parameters"))
        _check_sources(members, parameters)
        name = string_member(members, "name")
        datatype = datatype_of_wire(string_member(members, "datatype"))
        shape = _read_shape(members, name)
        if name in request.inputs:
            raise invalid(f"{request_prefix(request.id)}input '{name}' already exists in request")
        if "binary_data_size" in parameters:
            size = as_unsigned(parameters["binary_data_size"], "Unable to parse 'binary_data_size'")
            end = offset + size
            if end > len(tail):
                raise invalid(
                    f"unexpected size for input '{name}', expecting {end - len(tail)} additional bytes for "
                    f"model '{request.model_name}'"
                )
            request.inputs[name] = Tensor(datatype, shape, tail[offset:end])
            offset = end
        elif "data" in members:
            request.inputs[name] = read_data(name, datatype, shape, members["data"], max_input_size)
        else:
            request.inputs[name] = read_tensor(regions, _read_part(parameters), datatype, shape)
    if offset != len(tail):
        raise invalid(f"unexpected additional input data for model '{request.model_name}'")


def _check_sources(members: JsonObject, parameters: JsonObject) -> None:
    """Raise InferError unless an input says in exactly one way where its elements are."""
    named = {
        "data": "data" in members,
        "binary_data_size": "binary_data_size" in parameters,
        "shared_memory_region": "shared_memory_region" in parameters,
    }
    if sum(named.values()) != 1:
        found = "".join(f" '{name}'" for name, is_set in named.items() if is_set)
        raise invalid(f"{_SOURCES} set{found}" if found else f"{_SOURCES} no field is set")


def _read_shape(members: JsonObject, name: str) -> Shape:
    shape = members.get("shape")
    if type(shape) is not list:
        raise mismatch("Unable to parse 'shape'", "array") if "shape" in members else missing("shape")
    if len(shape) > MAX_RANK:
        check_number_of(f"dimensions in input '{name}'", len(shape), MAX_RANK)
    for dim in shape:
        if type(dim) is not int or not 0 <= dim <= MAX_SIZE:
            return tuple(map(_as_signed, shape))
    return tuple(shape)


def _as_signed(dim: object) -> int:
    """Return a dimension as Triton keeps it, where one too large becomes negative; raises InferError."""
    unsigned = as_unsigned(dim, "Unable to parse 'shape'")
    return unsigned if unsigned <= MAX_SIZE else unsigned - 2**64


def _read_outputs(request: Request, outputs: list[Any], regions: Regions) -> dict[str, OutputForm]:
    check_number_of("outputs", len(outputs), MAX_TENSORS)
    forms: dict[str, OutputForm] = {}
    for each in outputs:
        members = object_or_empty(each)
        parameters = object_or_empty(members.get("parameters"))
        if "shared_memory_region" in parameters:
            _check_region_alone(parameters)
        name = string_member(members, "name")
        if name in forms:
            raise invalid(f"{request_prefix(request.id)}output '{name}' already exists in request")
        forms[name] = _read_form(parameters, regions) if parameters else JSON_FORM
    request.requested_outputs = tuple(forms)
    return forms


def _check_region_alone(parameters: JsonObject) -> None:
    """Raise InferError where an output for shared memory asks for another form as well."""
    if "classification" in parameters:
        raise invalid("Output can't set both 'shared_memory_region' and 'classification'")
    if "binary_data" in parameters and as_boolean(parameters["binary_data"], "Unable to set 'binary_data'"):
        raise invalid("Output can't set both 'shared_memory_region' and 'binary_data'")


def _read_form(parameters: JsonObject, regions: Regions) -> OutputForm:
    classes = 0
    if "classification" in parameters:
        classes = as_unsigned(parameters["classification"], "Unable to set 'classification'")
    if "shared_memory_region" in parameters:
        return OutputForm(destination=regions.destination(_read_part(parameters)))
    binary = False
    if "binary_data" in parameters:
        binary = as_boolean(parameters["binary_data"], "Unable to parse 'binary_data'")
    return OutputForm(binary, classes) if classes else BINARY_FORM if binary else JSON_FORM


def _read_part(parameters: JsonObject) -> RegionPart:
    """Return where in shared memory a tensor is said to lie; raises InferError."""
    region = as_string(parameters["shared_memory_region"], "Unable to parse 'shared_memory_region'")
    offset, byte_size = (
        as_unsigned(parameters.get(name, 0), f"Unable to parse '{name}'")
        for name in ("shared_memory_offset", "shared_memory_byte_size")
    )
    return RegionPart(region, offset, byte_size)
