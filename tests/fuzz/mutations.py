"""Bytes made of other bytes: one to four small changes, such as break parsers."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

NUMBERS: Final = (
    *(0, 1, 2, 127, 128, 255, 256, 65535, 65536),
    *(sign * 2**power + near for power in (31, 32, 53, 63, 64) for near in (-1, 0, 1) for sign in (-1, 1)),
)
TOKENS: Final = (
    *(b"\x00", b"\xff", b"\x80", b"\x7f", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\t"),
    *(b'"', b"\\", b"%00", b"../", b"[", b"]", b"{", b"}", b",", b":", b"\\ud800", b"\xc3"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"A" * 4096),
    *(b"[" * 200, b'{"a":' * 200, b"\xff" * 10, b"\x9b\x06" * 200),
    *(b"binary_data_size", b"shared_memory_region", b"classification", b"sequence_id", b"triton_", b"id"),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"),
)
"""What parsers stumble over."""
_DIGITS: Final = re.compile(rb"-?[0-9]+")

Mutation = Callable[[Random, bytearray], None]


def _flip(rng: Random, body: bytearray) -> None:
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _set(rng: Random, body: bytearray) -> None:
    body[rng.randrange(len(body))] = rng.randrange(256)


def _delete(rng: Random, body: bytearray) -> None:
    at = rng.randrange(len(body))
    del body[at : at + rng.choice((1, 1, 2, 4, 8, 100))]


def _repeat(rng: Random, body: bytearray) -> None:
    at = rng.randrange(len(body))
    piece = body[at : at + rng.randint(1, 64)]
    body[at:at] = piece * rng.choice((1, 2, 10, 100))


def _insert(rng: Random, body: bytearray) -> None:
    at = rng.randint(0, len(body))
    body[at:at] = rng.choice(TOKENS)


def _truncate(rng: Random, body: bytearray) -> None:
    del body[rng.randrange(len(body)) :]


def _number(rng: Random, body: bytearray) -> None:
    found = list(_DIGITS.finditer(body))
    if found:
        chosen = rng.choice(found)
        body[chosen.start() : chosen.end()] = str(rng.choice(NUMBERS)).encode()


MUTATIONS: Final[Sequence[Mutation]] = (_flip, _set, _delete, _repeat, _insert, _insert, _truncate, _number)


def mutated(rng: Random, seed: bytes) -> bytes:
    """Return bytes that were changed in one to four places."""
    body = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        if not body:
            break
        rng.choice(MUTATIONS)(rng, body)
    return bytes(body)
