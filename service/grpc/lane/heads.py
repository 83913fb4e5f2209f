"""What the headers of a request say: which method, until when, how its messages are packed.

It is worked out once for each header block that a client repeats; see `http2.headers`.
"""

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ...http2.errors import ErrorCode, StreamFault
from ...http2.headers import Header
from ..call import Metadata
from ..method import Method
from .packing import PACKINGS

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_TRANSPORT: Final = frozenset(
    {
        b"content-type",
        b"te",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"content-length",
    }
)
"""Headers that are no metadata."""
_NO_VALUE: Final = frozenset(b"\0\r\n")
_NO_NAME: Final = frozenset((*range(0x21), 0x3A, 0x7F))
"""Control characters, the blank and the colon."""
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST_TIMEOUT: Final = 8
"""Digits of a grpc-timeout."""
_LARGEST_TIMEOUT_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its messages."""

    path: str
    method: Method | None
    """None where no service has such a method."""
    metadata: Metadata
    timeout_s: float | None
    """Seconds that the client gives the call."""
    packing: str
    """How messages that are marked as packed are packed."""
    accepted: frozenset[str]
    """How answers may be packed."""
    http_status: str
    """The status of a request that is no call of gRPC; empty for one that is."""


Reader = Callable[[Sequence[Header]], Head]


def head_reader(methods: Mapping[str, Method]) -> Reader:
    """Return what reads the headers of requests; it raises StreamFault for those that are malformed."""

    def read(headers: Sequence[Header]) -> Head:
        pseudo, fields = _checked(headers)
        path = pseudo[b":path"].decode("latin-1")
        values = dict(fields)
        http_status = ""
        if pseudo[b":method"] != b"POST":
            http_status = "405"
        elif not _is_grpc(values.get(b"content-type", b"")):
            http_status = "415"
        return Head(
            path=path,
            method=methods.get(path),
            metadata=_metadata(fields),
            timeout_s=_timeout(values.get(b"grpc-timeout")),
            packing=values.get(b"grpc-encoding", b"identity").decode("latin-1"),
            accepted=_accepted(values.get(b"grpc-accept-encoding", b"")),
            http_status=http_status,
        )

    return read


def _checked(headers: Sequence[Header]) -> tuple[dict[bytes, bytes], list[Header]]:
    """Return pseudo-headers and headers; raises StreamFault where RFC 9113, section 8, forbids them."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[Header] = []
    for name, value in headers:
        if not _NO_VALUE.isdisjoint(value):
            raise _malformed()
        if name.startswith(b":"):
            if fields or name in pseudo or name not in _PSEUDO:
                raise _malformed()
            pseudo[name] = value
            continue
        if not name or name in _OF_CONNECTIONS or name != name.lower() or not _is_token(name):
            raise _malformed()
        if name == b"te" and value != b"trailers":
            raise _malformed()
        fields.append((name, value))
    if not pseudo.keys() >= _NEEDED or not pseudo[b":path"]:
        raise _malformed()
    return pseudo, fields


def _is_token(name: bytes) -> bool:
    return name.isascii() and _NO_NAME.isdisjoint(name)


def _malformed() -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR)


def _is_grpc(content_type: bytes) -> bool:
    plain = b"application/grpc"
    return content_type.startswith(plain) and content_type[len(plain) : len(plain) + 1] in (b"", b"+", b";")


def _metadata(fields: Sequence[Header]) -> Metadata:
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name in _TRANSPORT:
            continue
        key = name.decode("latin-1")
        if name.endswith(b"-bin"):
            metadata += [(key, _binary(each)) for each in value.split(b",")]
        else:
            metadata.append((key, value.decode("latin-1")))
    return tuple(metadata)


def _binary(value: bytes) -> bytes:
    """Return what base64 stands for, with or without its padding; raises StreamFault."""
    value = value.strip()
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except ValueError:
        raise _malformed() from None


def _timeout(value: bytes | None) -> float | None:
    """Return a grpc-timeout in seconds; raises StreamFault for one that is none."""
    if value is None:
        return None
    text = value.decode("latin-1")
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _LONGEST_TIMEOUT or unit not in _UNITS:
        raise _malformed()
    return min(int(digits) * _UNITS[unit], _LARGEST_TIMEOUT_S)


def _accepted(value: bytes) -> frozenset[str]:
    named = {each.strip() for each in value.decode("latin-1").split(",")}
    return frozenset(named & PACKINGS.keys())
