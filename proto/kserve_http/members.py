"""Values of a JSON document, each asked for by its type.

A value of another type, or a member that is not there, is answered in the words of Triton's JSON library
(`triton_json.h`). It calls them internal errors: on HTTP that is a 500, and clients have come to know it.
"""

from typing import Any, TypeGuard

from ..errors import InferError, internal

JsonObject = dict[str, Any]


def mismatch(task: str, kind: str) -> InferError:
    """Return the error of a value that is not of the kind which a task needs; an empty task is not named."""
    named = f"{task}: " if task else ""
    return internal(f"{named}attempt to access JSON non-{kind} as {'double' if kind == 'number' else kind}")


def missing(name: str) -> InferError:
    """Return the error of an object without a member that must be there."""
    return internal(f"Unable to parse '{name}': attempt to access non-existing object member '{name}'")


def is_unsigned(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of 64 bits without a sign; true and false are none."""
    return type(value) is int and 0 <= value < 2**64


def as_unsigned(value: object, task: str) -> int:
    """Return an unsigned integer; raises InferError."""
    if is_unsigned(value):
        return value
    raise mismatch(task, "unsigned-integer")


def as_boolean(value: object, task: str) -> bool:
    """Return a boolean; raises InferError."""
    if type(value) is bool:
        return value
    raise mismatch(task, "boolean")


def as_string(value: object, task: str) -> str:
    """Return a string; raises InferError."""
    if type(value) is str:
        return value
    raise mismatch(task, "string")


def string_member(members: JsonObject, name: str) -> str:
    """Return a member that is a string; raises InferError."""
    value = members.get(name)
    if type(value) is str:
        return value
    raise mismatch(f"Unable to parse '{name}'", "string") if name in members else missing(name)


def array_member(members: JsonObject, name: str) -> list[Any]:
    """Return a member that is an array; raises InferError."""
    value = members.get(name)
    if type(value) is list:
        return value
    raise mismatch(f"Unable to parse '{name}'", "array") if name in members else missing(name)


def object_or_empty(value: object) -> JsonObject:
    """Return an object; anything else has no members."""
    return value if type(value) is dict else {}
