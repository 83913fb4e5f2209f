"""The JSON form of a configuration: what the configuration endpoint answers and what a load may bring along.

It is protobuf's JSON with the names of the schema, in the order of the schema, defaults included, and 64-bit
integers as numbers. Triton turns them into numbers field by field and leaves three out; clients know these as
strings.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, ConfigError, entry
from .text import MAX_TEXT_BYTES

_STRINGS: Final = frozenset(
    {
        "inference.ModelSequenceBatching.InitialState.dims",
        "inference.ModelOptimizationPolicy.Cuda.GraphSpec.Shape.dim",
        "inference.ModelInstanceGroup.SecondaryDevice.device_id",
    }
)
"""The 64-bit integers that are strings."""

_EXACT_INTEGERS: Final = 2**53

_BARE_NAME: Final = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<name>[A-Za-z_]\w*)\s*:')
"""A string, or the name of a member without its quotes; protobuf's parser in Triton reads it so."""


def to_json(config: pb.ModelConfig) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    return _message_to_json(config)


def _message_to_json(message: Message) -> dict[str, Any]:
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[assignment] # the stubs know two classes of it
    document: dict[str, Any] = {}
    for field in descriptor.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_value = field.message_type.fields_by_name["value"]
            document[field.name] = {str(key): _value_to_json(of_value, value[key]) for key in sorted(value)}
        elif field.is_repeated:
            document[field.name] = [_value_to_json(field, each) for each in value]
        elif not field.has_presence or message.HasField(field.name):
            document[field.name] = _value_to_json(field, value)
    return document


def _value_to_json(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 # any value of any field
    if field.message_type is not None:
        return _message_to_json(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.full_name in _STRINGS:
        return str(value)
    if isinstance(value, float):
        return _float_to_json(value, single=field.type == FieldDescriptor.TYPE_FLOAT)
    return value


def _float_to_json(value: float, *, single: bool) -> float | str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) <= _EXACT_INTEGERS:
        return int(value)
    return float(str(np.float32(value))) if single else value  # 0.1, not 0.10000000149011612


def from_json(text: bytes | str, file: str = "") -> pb.ModelConfig:
    """Return the message that a JSON text spells; names may be camelCase and bare, enum values in any case.

    `file` is only a name, for complaints. Raises ConfigError when the text is no JSON object or does not fit
    the schema.
    """
    if len(text) > MAX_TEXT_BYTES:
        message = f"configuration has {len(text)} bytes, which exceeds the maximum of {MAX_TEXT_BYTES} bytes"
        raise ConfigError([Complaint(message, "", file)])
    document = _loads(text, file)
    if not isinstance(document, dict):
        raise ConfigError([Complaint("configuration must be a JSON object", "", file)])
    complaints: list[Complaint] = []
    descriptor: Descriptor = pb.ModelConfig.DESCRIPTOR  # type: ignore[assignment] # two classes in the stubs
    _spell_enums(document, descriptor, "", complaints)
    config = pb.ModelConfig()
    try:
        if not complaints:
            json_format.ParseDict(document, config)
    except json_format.ParseError as error:
        first_line, *_ = str(error).split("\n")
        complaints.append(Complaint(first_line).shortened())
    if complaints:
        raise ConfigError([Complaint(each.message, each.path, file) for each in complaints])
    return config


def _loads(text: bytes | str, file: str) -> Any:  # noqa: ANN401 # any JSON value
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            return orjson.loads(_BARE_NAME.sub(_quoted, text if isinstance(text, str) else text.decode()))
        except ValueError:
            raise ConfigError([Complaint(error.msg, "", file, error.lineno, error.colno)]) from None


def _quoted(found: re.Match[str]) -> str:
    name = found["name"]
    return f'"{name}":' if name else found[0]


def _spell_enums(
    document: dict[str, Any], message: Descriptor, path: str, complaints: list[Complaint]
) -> None:
    """Put the values of enums into the case of the schema, and complain of those that it does not have."""
    for name, value in document.items():
        field = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
        if field is None:
            continue
        here = f"{path}.{field.name}".removeprefix(".")
        if field.enum_type is not None:
            document[name] = _spell_enum(value, field.enum_type, here, complaints)
        elif field.message_type is not None:
            for inner, message_type, where in _messages(value, field, here):
                _spell_enums(inner, message_type, where, complaints)


def _messages(
    value: object, field: FieldDescriptor, path: str
) -> Iterator[tuple[dict[str, Any], Descriptor, str]]:
    """Yield the messages in the value of a field, of whatever form: one, a list of them, or a map."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        message = message.fields_by_name["value"].message_type
        entries = [(entry(key), each) for key, each in value.items()] if isinstance(value, dict) else []
    elif isinstance(value, list):
        entries = [(entry(index), each) for index, each in enumerate(value)]
    else:
        entries = [("", value)]
    for end, each in entries:
        if message is not None and isinstance(each, dict):
            yield each, message, path + end


def _spell_enum(value: object, enum: EnumDescriptor, path: str, complaints: list[Complaint]) -> object:
    if isinstance(value, str):
        known = enum.values_by_name.get(value.upper())
    elif isinstance(value, int) and not isinstance(value, bool):
        known = enum.values_by_number.get(value)
    else:
        return value  # null is the default; the parser refuses the rest.
    if known is None:
        complaints.append(
            Complaint(f'Enum type "{enum.full_name}" has no value {value!r}.', path).shortened()
        )
        return value
    return known.name
