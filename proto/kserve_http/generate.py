"""The generate extension: objects of plain values become requests, and responses such objects.

A member whose name is that of an input is its data, a scalar or an array; any other is a parameter of the
request. The member `parameters` holds more of both. Shapes are not sent, so they are worked out: fixed
dimensions first, then what remains of the elements goes to the innermost variable one. The answer has the
response's parameters and outputs side by side, sorted by name; an output of one element is a scalar.

This is the mapping alone. How many responses there are, and how they are framed, is the door's business; the
texts for that are here.
"""

from typing import Any, Final

import orjson

from ..bounds import MAX_PARAMETERS, MAX_TENSORS, check_number_of
from ..config.model_config import InputSpec
from ..datatypes import Datatype
from ..errors import InferError, internal, invalid, request_prefix
from ..message import ParameterValue, Request, Response
from ..target import Target, served_version
from ..tensor import Raw, Shape, Tensor
from .document import DEFAULT_MAX_INPUT_SIZE, check_document_size, parse_document, repeated_member
from .elements import read_elements, read_strings
from .members import JsonObject, as_string, object_or_empty
from .parameters import read_custom_parameter
from .write_data import WRITE_OPTIONS, write_data, write_number

NESTED: Final = "parameters"
"""The member whose own members are mapped as those beside it."""

ONE_RESPONSE_EXPECTED: Final = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates "
    "various number of responses"
)

_WILDCARD: Final = -1


def decode_generate(body: Raw, target: Target, max_input_size: int = DEFAULT_MAX_INPUT_SIZE) -> Request:
    """Return the request that an object of values makes of a model; raises InferError."""
    check_document_size(len(body), max_input_size)
    document = parse_document(body)
    request = Request(target.name, target.version)
    members = object_or_empty(document)
    if "id" in members:
        request.id = as_string(members["id"], "Unable to parse 'id'")
    if type(document) is not dict:
        raise internal("attempt to get members for non-object")
    specs = {spec.name: spec for spec in target.config.inputs}
    repeated = repeated_member(body, specs)
    if repeated is not None:
        raise _already_there(request, repeated)
    batching = target.config.max_batch_size > 0
    mapping = _Mapping(request, specs, max_input_size, batching=batching)
    for name, value in members.items():
        if name == NESTED:
            _map_nested(mapping, value, is_input=name in specs)
        else:
            mapping.map(name, value)
    return request


def encode_generate(target: Target, request: Request, response: Response) -> bytes:
    """Return the object of values that answers a request; raises InferError where one has no JSON form."""
    if response.error is not None:
        raise response.error
    # Of members with the same name the first one counts.
    members: JsonObject = {"id": request.id} if request.id else {}
    members |= {"model_name": target.name, "model_version": str(served_version(target, request))}
    for name, value in response.parameters.items():
        members.setdefault(name, write_number(value) if isinstance(value, float) else value)
    for name, tensor in response.outputs.items():
        if name not in members:
            members[name] = _plain(name, tensor)
    try:
        return orjson.dumps(dict(sorted(members.items())), option=WRITE_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise internal(f"response of model '{target.name}' has no JSON form: {error}") from None


def event(text: bytes) -> bytes:
    """Return one event of the stream that `generate_stream` answers with."""
    return b"data: %b\n\n" % text


def _plain(name: str, tensor: Tensor) -> object:
    data = write_data(name, tensor)
    if tensor.element_count != 1:
        return data
    return orjson.Fragment(orjson.dumps(data, option=WRITE_OPTIONS)[1:-1])


def _map_nested(mapping: "_Mapping", value: object, *, is_input: bool) -> None:
    if is_input:
        raise invalid(f"Keyword '{NESTED}' for nested schema also given as input tensor name")
    if type(value) is not dict:
        raise internal(
            f"Expected JSON object for keyword: '{NESTED}': attempt to access JSON non-object as object"
        )
    try:
        for name, inner in value.items():
            mapping.map(name, inner)
    except InferError as error:
        raise InferError(error.fault, f"Converting keyword: '{NESTED}': {error.message}") from None


class _Mapping:
    """Where the members of one body go: the inputs and parameters of one request."""

    __slots__ = ("_batching", "_consumed", "_max_input_size", "_parameters", "_request", "_specs")

    def __init__(
        self, request: Request, specs: dict[str, InputSpec], max_input_size: int, *, batching: bool
    ) -> None:
        self._request = request
        self._specs = specs
        self._max_input_size = max_input_size
        self._batching = batching
        self._consumed = 0
        self._parameters: dict[str, ParameterValue] = {}
        request.parameters = self._parameters

    def map(self, name: str, value: object) -> None:
        """Take one member; raises InferError where it fits neither an input nor a parameter."""
        spec = self._specs.get(name)
        if spec is None:
            check_number_of("parameters", len(self._parameters) + 1, MAX_PARAMETERS)
            self._parameters[name] = read_custom_parameter(name, value)
            return
        tensor = self._tensor(spec, value if isinstance(value, list) else [value])
        if name in self._request.inputs:
            raise _already_there(self._request, name)
        check_number_of("inputs", len(self._request.inputs) + 1, MAX_TENSORS)
        self._request.inputs[name] = tensor

    def _tensor(self, spec: InputSpec, data: list[Any]) -> Tensor:
        count = len(data)
        if spec.datatype is Datatype.BYTES:
            raw = read_strings(data)
            size = len(raw)
        else:
            size = count * spec.datatype.item_size
        if size == 0:
            return Tensor(spec.datatype, (), b"")
        self._consume(spec.name, size)
        shape = self._shape(spec, count)
        if spec.datatype is Datatype.BYTES:
            return Tensor(spec.datatype, shape, raw)
        return read_elements(spec.name, spec.datatype, shape, data, count)

    def _consume(self, name: str, size: int) -> None:
        if self._consumed + size > self._max_input_size:
            raise invalid(
                f"request size of {self._consumed} bytes with input '{name}' of size {size} bytes exceeds "
                f"the maximum allowed input size of {self._max_input_size}. Use --http-max-input-size to "
                "increase the limit."
            )
        self._consumed += size

    def _shape(self, spec: InputSpec, count: int) -> Shape:
        """Return the shape of an input that has so many elements; raises InferError."""
        dims = (_WILDCARD, *spec.dims) if self._batching else spec.dims
        rest = count
        for dim in dims:
            if dim != _WILDCARD:
                rest, left_over = divmod(rest, dim)
                if left_over:
                    raise _no_proper_shape(spec.name)
        shape = list(dims)
        for index in reversed(range(len(dims))):
            if dims[index] == _WILDCARD:
                shape[index], rest = rest, 1
        if rest != 1:
            raise _no_proper_shape(spec.name)
        return tuple(shape)


def _already_there(request: Request, name: str) -> InferError:
    return invalid(f"{request_prefix(request.id)}input '{name}' already exists in request")


def _no_proper_shape(name: str) -> InferError:
    return invalid(f"The schema can not convert input '{name}' to tensor with proper shape")
