"""Where deuteron answers otherwise than Triton 2.51 on purpose, and why: a table.

The reference is a later Triton than the one that can be run here, so *older* says that 2.51 has not got to
where the reference is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .answers import Answer


@dataclass(frozen=True, slots=True)
class Known:
    """One class of difference: patterns found in Triton's answer, in deuteron's and in the request."""

    reason: str
    triton: str
    deuteron: str
    request: str = ""
    holds: Callable[[str, str], bool] | None = None
    """What must be true of both answers beside."""

    def explains(self, triton: str, deuteron: str, request: str) -> bool:
        """Whether a difference is of this class."""
        found = (
            re.search(self.triton, triton)
            and re.search(self.deuteron, deuteron)
            and re.search(self.request, request)
        )
        return bool(found) and (self.holds is None or self.holds(triton, deuteron))


def _reordered(triton: str, deuteron: str) -> bool:
    return sorted(triton) == sorted(deuteron)


_INPUT: Final = re.compile(r"input '([^']*)'")


def _about_other_inputs(triton: str, deuteron: str) -> bool:
    ours, theirs = _INPUT.search(deuteron), _INPUT.search(triton)
    return ours is not None and theirs is not None and ours[1] != theirs[1]


SILENT: Final = Known("Triton 2.51 ended or hung on this request", r"^(no answer|hung up|UNAVAILABLE)", "")

KNOWN: Final = (
    Known(
        "a raw request's input is called by its name, not raw_input",
        r"'raw_input'",
        r"input '",
        "",
    ),
    Known("the version of the server is its own", r'"version": "2\.51', r'"version": "'),
    Known("Triton lists inputs in the order of a hash table", r"Got input", r"Got input", "", _reordered),
    Known(
        "Triton lists an ensemble's outputs in the order of a hash table; here it is the configuration's",
        r'"model_name": "ensemble"',
        r'"model_name": "ensemble"',
        "",
        _reordered,
    ),
    Known(
        "of several bad inputs Triton names the first of a hash table; here it is the last of the request",
        r"input '",
        r"input '",
        "",
        _about_other_inputs,
    ),
    Known(
        "older: too few elements of JSON data have a text of their own in the reference",
        r"Unable to parse 'data': Shape does not match true shape",
        r"Failed to parse 'data' field: shape does not match true shape",
    ),
    Known(
        "older: the reference checks that the length of the JSON is a number of 32 bits",
        r"",
        r"Unable to parse Inference-Header-Content-Length",
    ),
    Known(
        "older: the reference refuses an output that is asked for twice", r"", r"already exists in request"
    ),
    Known(
        "a body that is not what its encoding says is refused; Triton takes it for an empty one",
        r"",
        r"failed to decompress the request body",
    ),
    Known(
        "an empty Content-Encoding is none, as in the reference's own code",
        r"^501 .*Unsupported compression type",
        r"",
        r"'Content-Encoding', ''",
    ),
    Known(
        "a batch of a negative number of rows is too large; Triton makes an unsigned number of it later",
        r"(Expected|expected) \d{10,}|got \[-",
        r"batch-size must be <=",
    ),
    Known(
        "of several unknown outputs Triton names the first of a hash table",
        r"unexpected inference output",
        r"unexpected inference output",
    ),
    Known(
        "of several bad parameters Triton names the first of a hash table",
        r"parameter",
        r"parameter",
        r"two changes|stream",
    ),
    Known(
        "of two inputs with one name Triton tells before it looks at their data",
        r"already exists in request",
        r"for '|for input",
        r"two changes|stream",
    ),
    Known("a batch without rows is refused", r"", r"batch-size must be >= 1"),
    Known(
        "a missing required input is refused even where optional ones make up the number",
        r"",
        r"expected number of inputs between .* missing required input\(s\) \['",
    ),
    Known(
        "older: the reference says over HTTP that a version is not there instead of that it is not ready",
        r"^400",
        r"^404 .*Request for unknown model",
        r"ready",
    ),
    Known(
        "older: the reference refuses negative dimensions before it counts bytes",
        r"Expected -?\d+, got|expecting -\d+|expected -\d+",
        r"contains an invalid dimension",
    ),
    Known(
        "strings beyond the end of their buffer are refused before the model is asked: it is not named",
        r"incomplete string data .*model_name",
        r"incomplete string data",
    ),
    Known(
        "an ID that is no UTF-8 comes back with ? in its place, so that the answer is JSON",
        r"[\udc80-\udcff]",
        r'^200 .*"id": "[^"]*\?',
    ),
    Known(
        "JSON ends where it ends; Triton's parser takes a byte of zero for the end of the text",
        r"",
        r"The document root must not be followed by other values",
        r"\\x00",
    ),
    Known(
        "a name goes on behind a byte of zero; where Triton keeps it as a C string, it ends there",
        r"unknown model|unexpected inference",
        r"\x00|\\u0000",
    ),
    Known(
        "a number too large for a double is infinite; Triton's parser refuses it",
        r"Number too big to be stored in double",
        r"",
    ),
    Known(
        "the maps of a configuration come in the order of a hash table from both servers",
        r'"ensemble_scheduling"',
        r'"ensemble_scheduling"',
        "",
        _reordered,
    ),
    Known(
        "the length of a string may be split between two chunks of a body; in Triton it may not",
        r"incomplete string length indicator",
        r"",
        r"chunked=True",
    ),
    Known(
        "counters count what was answered otherwise, too; the kind `counters` compares them from the start",
        r'"model_stats"',
        r'"model_stats"',
        r"information, ModelStatistics",
    ),
    Known(
        "Triton 2.51 counts the failures of an ensemble twice",
        r'"model_stats": \[{"name": "failing_ensemble"',
        r'"model_stats"',
        r"counters",
    ),
    SILENT,
)


def reasons(triton: Answer, deuteron: Answer, request: str) -> list[str] | None:
    """Return why two answers differ, None where a part of the difference has no reason; nothing if equal."""
    theirs, ours = triton.parts(), deuteron.parts()
    if len(theirs) != len(ours):
        theirs, ours = [str(triton)], [str(deuteron)]
    found: list[str] = []
    for one, other in zip(theirs, ours, strict=True):
        if one == other:
            continue
        reason = next((known.reason for known in KNOWN if known.explains(one, other, request)), None)
        if reason is None:
            return None
        found.append(reason)
    return found
