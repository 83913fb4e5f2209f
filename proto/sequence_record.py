"""What is kept of a sequence so that another server can go on with it, and its spelling.

A record is written after each step, before the step is answered. It holds the state that the model left, and
the answer: who was cut off before it came sends the same request again, and must not be served a second step.

The spelling, integers little-endian:

    magic "DTSQ", spelling 1 (u8), token (16 bytes), whether it ended (u8), length of the request ID (u32),
    lengths of states, outputs and parameters (u64 each), then these four: the ID in UTF-8, two spellings of
    `stored_outputs`, and a JSON object

The token is another one with each record, and stands at a fixed place: whoever remembers a step finds out by
those few bytes whether anybody has gone on since.
"""

import struct
from dataclasses import dataclass
from typing import Final

import orjson

from .message import Parameters
from .stored_outputs import StoredOutputs, StoredOutputsError, decode, encode

TOKEN_SIZE: Final = 16
TOKEN_START: Final = 5
TOKEN_END: Final = TOKEN_START + TOKEN_SIZE

_MAGIC: Final = b"DTSQ"
_SPELLING: Final = 1
_head = struct.Struct(f"<4sB{TOKEN_SIZE}sBIQQQ")


class SequenceRecordError(ValueError):
    """Bytes that spell no record."""


@dataclass(frozen=True, slots=True)
class SequenceRecord:
    """A sequence after one of its steps."""

    token: bytes
    request_id: str
    """Of the request that made the step; empty where its client gave none."""
    ended: bool
    """Whether that was its last step."""
    states: StoredOutputs
    """By the inputs that the model gets them as; none when it ended."""
    outputs: StoredOutputs
    """What the step was answered with."""
    parameters: Parameters

    def answers(self, request_id: str) -> bool:
        """Tell whether a request was served already."""
        return bool(request_id) and request_id == self.request_id


def spell(record: SequenceRecord) -> bytes:
    """Return the spelling of a record; raises StoredOutputsError for tensors that it has no place for."""
    request_id = record.request_id.encode(errors="surrogatepass")
    states, outputs = encode(record.states), encode(record.outputs)
    parameters = orjson.dumps(record.parameters)
    head = _head.pack(
        _MAGIC,
        _SPELLING,
        record.token,
        record.ended,
        len(request_id),
        len(states),
        len(outputs),
        len(parameters),
    )
    return b"".join((head, request_id, states, outputs, parameters))


def read(spelt: bytes) -> SequenceRecord:
    """Return the record that bytes spell; raises SequenceRecordError where they spell none."""
    if len(spelt) < _head.size:
        raise SequenceRecordError(f"{len(spelt)} bytes are no record")
    magic, spelling, token, ended, *lengths = _head.unpack_from(spelt)
    if magic != _MAGIC or spelling != _SPELLING:
        raise SequenceRecordError("this is no record")
    if _head.size + sum(lengths) != len(spelt):
        raise SequenceRecordError(f"{sum(lengths)} bytes are announced, {len(spelt) - _head.size} are there")
    parts = []
    place = _head.size
    for length in lengths:
        parts.append(spelt[place : place + length])
        place += length
    request_id, states, outputs, parameters = parts
    try:
        told = orjson.loads(parameters)
        if not isinstance(told, dict):
            raise SequenceRecordError("parameters are no object")
        name = request_id.decode(errors="surrogatepass")
        return SequenceRecord(token, name, bool(ended), decode(states), decode(outputs), told)
    except (StoredOutputsError, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise SequenceRecordError(str(error)) from error
