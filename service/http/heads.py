"""Heads of requests, read for the lane: the few plain forms that inference comes in, and nothing else.

Two readers on one connection are safe only while they agree where a request ends. So this one reads what
leaves no room for opinion: HTTP/1.1 with a host, names and values of plain characters, at most one
`Content-Length` of nothing but digits, no transfer coding, no expectation, no upgrade. Of everything else it
says that it does not know, and then aiohttp reads, to the end of the connection.

Clients send the same head again and again, byte for byte. Each is read once and remembered; the memory is
bounded and forgets everything when it is full.
"""

import re
from dataclasses import dataclass
from typing import Final

from ...proto.errors import InferError
from ...proto.kserve_http import HEADER
from ..operations import Operation
from ..policy import Requirement
from .compression import IDENTITY, preferred_encoding
from .routes import Match, MethodNotAllowedError, NoRouteError, Switchboard

MAX_HEAD: Final = 16 * 1024
"""Bytes of a head that is read here."""
REMEMBERED: Final = 1024
MAX_REMEMBERED_HEAD: Final = 2048
"""Bytes of a head that is remembered: what remembers strangers' heads must not grow large."""

_END: Final = b"\r\n\r\n"
_HEAD: Final = re.compile(
    rb"(GET|POST) (/[!-~]*) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n){0,128})\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_UNREAD: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_JSON_LENGTH: Final = HEADER.lower().encode()

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A request line with its headers, and how long the body is that follows."""

    size: int
    """Bytes of the head itself."""
    body_size: int
    headers: Headers
    infer: Match | None
    """What inference is asked for, where the lane can answer; None for what aiohttp is to answer."""
    json_length: str | None = None
    """What the header that tells the length of the JSON says."""


class HeadReader:
    """Reads heads, and remembers those it has read."""

    __slots__ = ("_known", "_requirement", "_switchboard")

    def __init__(self, requirement: Requirement | None = None) -> None:
        self._switchboard = Switchboard()
        self._requirement = requirement
        self._known: dict[bytes, Head] = {}

    def read(self, data: bytes) -> Head | None:
        """Return the head that data begin with; None where it is incomplete or not as plain as it must be."""
        end = data.find(_END, 0, MAX_HEAD)
        if end < 0:
            return None
        text = data[: end + len(_END)]
        known = self._known.get(text)
        if known is not None:
            return known
        head = self._parse(text)
        if head is not None and len(text) <= MAX_REMEMBERED_HEAD:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[text] = head
        return head

    def _parse(self, text: bytes) -> Head | None:
        match = _HEAD.fullmatch(text)
        if match is None:
            return None
        method, path, lines = match.groups()
        headers = tuple(_header(line) for line in lines.split(b"\r\n")[:-1])
        folded: dict[bytes, bytes] = {name.lower(): value for name, value in headers}
        body_size = _body_size(headers, folded)
        if body_size is None or folded.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        infer = self._inference(method.decode(), path.decode(), folded)
        json_length = folded.get(_JSON_LENGTH)
        return Head(
            len(text),
            body_size,
            headers,
            infer,
            None if json_length is None else json_length.decode(errors="replace"),
        )

    def _inference(self, method: str, path: str, folded: dict[bytes, bytes]) -> Match | None:
        """Return what is asked for where the lane can answer it: inference, in and out as it is."""
        try:
            match = self._switchboard.find(method, path)
        except (NoRouteError, MethodNotAllowedError, InferError):
            return None
        if (
            match.operation is not Operation.INFER
            or folded.get(b"content-encoding", b"identity") != b"identity"
        ):
            return None
        if preferred_encoding(folded.get(b"accept-encoding", b"").decode(errors="replace")) != IDENTITY:
            return None
        key = self._requirement
        if key is not None:
            shown = folded.get(key.header.lower().encode())
            if not key.is_met_by(None if shown is None else shown.decode(errors="replace")):
                return None
        return match


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip(b"\t ")


def _body_size(headers: Headers, folded: dict[bytes, bytes]) -> int | None:
    """Return how many bytes follow the head; None where that is not beyond doubt."""
    if len(folded) != len(headers) or b"host" not in folded or not _UNREAD.isdisjoint(folded):
        return None
    length = folded.get(b"content-length")
    if length is None:
        return 0
    return int(length) if _LENGTH.fullmatch(length) else None
