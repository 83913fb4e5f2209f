"""The decoder that remembers heads gives what reading them anew gives."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from deuteron.proto import kserve_http
from deuteron.proto.errors import InferError
from deuteron.proto.kserve_http import Decoder
from deuteron.proto.kserve_http.decoder import MAX_REMEMBERED_HEAD, REMEMBERED
from deuteron.proto.message import Request

LIMIT = 1 << 20


@dataclass
class Model:
    """A target of which nothing but its name matters here."""

    name: str = "m"
    version: int = 3
    config: Any = None
    labels: dict[str, list[str]] = field(default_factory=dict)


def binary(name: str, size: int, datatype: str = "UINT8") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [size], "parameters": {"binary_data_size": size}}


def body_of(head: dict[str, Any], tail: bytes) -> tuple[bytes, int]:
    text = json.dumps(head).encode()
    return text + tail, len(text)


def told(request: Request) -> tuple[Any, ...]:
    inputs = [(name, each.datatype, each.shape, bytes(each.raw)) for name, each in request.inputs.items()]
    return (
        (request.model_name, request.model_version, request.id, inputs, request.requested_outputs),
        (request.parameters, request.correlation, request.priority, request.timeout_us),
    )


@pytest.mark.parametrize(
    "head",
    [
        {"inputs": [binary("A", 4)]},
        {"inputs": [binary("A", 1), binary("B", 0), binary("C", 3)]},
        {
            "id": "7",
            "inputs": [binary("A", 4)],
            "outputs": [{"name": "X", "parameters": {"binary_data": True}}],
        },
        {
            "inputs": [binary("A", 4)],
            "outputs": [{"name": "X", "parameters": {"classification": 2}}],
            "parameters": {
                "sequence_id": 5,
                "sequence_start": True,
                "priority": 2,
                "timeout": 9,
                "mine": "x",
            },
        },
        {"inputs": [binary("A", 4)], "parameters": {"binary_data_output": True}},
    ],
)
def test_a_remembered_head_says_what_it_said_before(head: dict[str, Any]) -> None:
    decoder = Decoder(LIMIT)
    for tail in (b"abcd", b"efgh", b"ijkl"):
        body, length = body_of(head, tail)
        request, forms = decoder.decode(body, length, Model())
        expected, expected_forms = kserve_http.decode_infer(body, length, Model(), LIMIT)
        assert told(request) == told(expected)
        assert forms == expected_forms
    assert len(decoder._known) == 1


def test_another_model_may_be_asked_with_the_same_head() -> None:
    decoder = Decoder(LIMIT)
    body, length = body_of({"inputs": [binary("A", 4)]}, b"abcd")
    assert decoder.decode(body, length, Model())[0].model_name == "m"
    other, _ = decoder.decode(body, length, Model("other", 8))
    assert (other.model_name, other.model_version) == ("other", 8)


def test_a_remembered_head_with_a_body_of_another_length_is_refused_as_ever() -> None:
    decoder = Decoder(LIMIT)
    body, length = body_of({"inputs": [binary("A", 4)]}, b"abcd")
    decoder.decode(body, length, Model())
    with pytest.raises(InferError, match="unexpected size for input 'A', expecting 1 additional bytes"):
        decoder.decode(body[:-1], length, Model())
    with pytest.raises(InferError, match="unexpected additional input data"):
        decoder.decode(body + b"!", length, Model())


@pytest.mark.parametrize(
    "each",
    [
        {"name": "A", "datatype": "UINT8", "shape": [1], "data": [1]},
        {"name": "A", "datatype": "BYTES", "shape": [1], "data": ["x"]},
    ],
)
def test_tensors_in_the_json_are_not_remembered(each: dict[str, Any]) -> None:
    decoder = Decoder(LIMIT)
    body, length = body_of({"inputs": [binary("B", 4), each]}, b"abcd")
    decoder.decode(body, length, Model())
    assert not decoder._known


def test_the_memory_is_bounded() -> None:
    decoder = Decoder(LIMIT)
    for each in range(3 * REMEMBERED):
        body, length = body_of({"id": str(each), "inputs": [binary("A", 4)]}, b"abcd")
        decoder.decode(body, length, Model())
    assert len(decoder._known) <= REMEMBERED
    decoder = Decoder(LIMIT)
    body, length = body_of({"id": "x" * MAX_REMEMBERED_HEAD, "inputs": [binary("A", 4)]}, b"abcd")
    decoder.decode(body, length, Model())
    assert not decoder._known
