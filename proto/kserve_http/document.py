"""From text to a JSON document: quickly when it is JSON, patiently when it is nearly so.

orjson reads what every client sends. What it refuses is read again by the standard library, which accepts
what Triton's parser does beyond JSON: NaN and Infinity as numbers, and bytes that are no UTF-8 inside
strings. Those bytes stay what they are: they come back with the `surrogateescape` error handler.

What neither can read is refused in the words of rapidjson, Triton's parser, with the byte where it stopped.
The standard library tells as much in other words, all but one thing: which kind of bracket a missing comma
was in.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

import orjson

from ..errors import Fault, InferError, internal, invalid
from ..tensor import Raw

DEFAULT_MAX_INPUT_SIZE: Final = 64 << 20
"""Bytes of JSON, and of each tensor in it; binary tensors are bounded by the body alone."""

MAX_NESTING: Final = 100
"""Arrays within arrays that the data of a tensor may have, itself included."""

TOO_DEEP: Final = f"JSON nesting depth exceeds maximum allowed limit ({MAX_NESTING})"

MAX_CONTAINERS: Final = 1 << 20
"""Arrays and objects that a text may have: each is worth twenty times its two bytes of memory."""

_MAX_DIAGNOSED: Final = 1 << 20
"""Characters in which an open bracket is looked for; in more, a missing comma is taken for an array's."""

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[][{}]")
_UNFINISHED_NUMBER: Final = re.compile(r"[0-9](?:\.|[eE][+-]?)(?![0-9])")
_LONG_NUMBER: Final = re.compile(r"[0-9]{4301}")
_LITERALS: Final = {literal[0]: literal for literal in ("true", "false", "null", "NaN", "Infinity")}
_NEGATIVE_LITERALS: Final = {letter: _LITERALS[letter] for letter in "NI"}

_INVALID_VALUE: Final = "Invalid value."
_EMPTY: Final = "The document is empty."

_WORDS: Final = {
    "Expecting property name": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": _INVALID_VALUE,
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character": "Invalid escape character in string.",
}
"""How a complaint of the standard library begins → what rapidjson says."""


class NestedTooDeepError(InferError):
    """The error of a JSON text with more arrays within arrays than can be followed."""


def check_document_size(size: int, most: int) -> None:
    """Raise InferError when a JSON text is longer than inputs may be."""
    if size > most:
        raise invalid(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of {most} bytes. Use "
            "--http-max-input-size to increase the limit."
        )


def parse_document(body: Raw) -> object:
    """Return what a JSON text stands for; raises InferError where it is none, or too much of one."""
    if len(body) > 2 * MAX_CONTAINERS:
        _check_containers(bytes(body))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_patiently(bytes(body).decode("utf-8", "surrogateescape").removeprefix("\ufeff"))


def _check_containers(text: bytes) -> None:
    """Raise InferError for more brackets than can be had; those within strings count, too."""
    number = text.count(b"[") + text.count(b"{")
    if number > MAX_CONTAINERS:
        raise invalid(
            f"request JSON has {number} arrays and objects, more than the {MAX_CONTAINERS} that are supported"
        )


def repeated_member(body: Raw, names: Iterable[str]) -> str | None:
    """Return the first of these names that an object in a JSON text has a second time, None where none has.

    The text has been parsed before, and that says nothing of this: of members with one name the last counts.
    Raises InferError for a text that is nested too deeply to be read again.
    """
    suspects = [name for name in names if bytes(body).count(orjson.dumps(name)) > 1]
    if not suspects:
        return None
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen and name in suspects:
                found.append(name)
            seen.add(name)

    text = bytes(body).decode("utf-8", "surrogateescape")
    try:
        json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    except RecursionError:
        raise invalid(f"Unable to parse 'data': {TOO_DEEP}") from None
    return found[0] if found else None


def _parse_patiently(text: str) -> object:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as mistake:
        words, at = _diagnose(text, mistake)
        raise _unreadable(text, words, at) from None
    except RecursionError:
        raise NestedTooDeepError(Fault.INVALID_ARG, f"Unable to parse 'data': {TOO_DEEP}") from None
    except ValueError:  # Python reads no integers of so many digits
        number = _LONG_NUMBER.search(text)
        at = number.start() if number else 0
        raise _unreadable(text, "Number too big to be stored in double.", at) from None
    if isinstance(document, dict) and isinstance(document.get("id"), str):
        document["id"] = document["id"].encode(errors="replace").decode()  # it goes into the answer
    return document


def _unreadable(text: str, words: str, at: int) -> InferError:
    offset = len(text[:at].encode("utf-8", "surrogateescape"))
    return internal(f"failed to parse the request JSON buffer: {words} at {offset}")


def _diagnose(text: str, mistake: json.JSONDecodeError) -> tuple[str, int]:
    """Return what rapidjson says of a mistake, and the character where it stops."""
    at = mistake.pos
    if mistake.msg.startswith("Expecting value"):
        return _diagnose_value(text, at)
    number = _UNFINISHED_NUMBER.match(text, at - 1) if at else None
    if number:
        part = "fraction part" if text[at] == "." else "exponent"
        return f"Miss {part} in number.", number.end()
    if mistake.msg.startswith("Expecting ',' delimiter"):
        kind = (
            "'}' after an object member"
            if _innermost_bracket(text[:at]) == "{"
            else "']' after an array element"
        )
        return f"Missing a comma or {kind}.", at
    if mistake.msg.startswith("Unterminated string"):
        at = len(text)
    elif mistake.msg.startswith("Invalid \\u"):
        at = text.rfind("\\u", 0, at + 1)
    elif mistake.msg.startswith("Illegal trailing comma"):
        at = len(text) - len(text[at + 1 :].lstrip())
    elif text[at : at + 1] == "\0" and mistake.msg.startswith("Invalid control"):
        return _WORDS["Unterminated string"], at  # where a C string ends
    words = next((words for start, words in _WORDS.items() if mistake.msg.startswith(start)), _INVALID_VALUE)
    return words, at


def _diagnose_value(text: str, at: int) -> tuple[str, int]:
    """Return what is wrong where a value should begin: a word that starts well is read as far as it goes."""
    if not text[:at].strip() and (at == len(text) or text[at] in "]}:,"):
        return _EMPTY, at
    literals = _LITERALS
    if text[at : at + 1] == "-":
        at += 1
        literals = _NEGATIVE_LITERALS
    for letter in literals.get(text[at : at + 1], ""):
        if text[at : at + 1] != letter:
            break
        at += 1
    return _INVALID_VALUE, at


def _innermost_bracket(head: str) -> str:
    """Return the bracket that is still open at the end of a text that began as a document."""
    if len(head) > _MAX_DIAGNOSED:
        return "["
    closed = 0
    for bracket in reversed(_BRACKET.findall(_STRING.sub("", head))):
        if bracket in "]}":
            closed += 1
        elif closed:
            closed -= 1
        else:
            return str(bracket)
    return "["
