"""What is no JSON is refused as rapidjson does, and what Triton takes beyond JSON is taken."""

import json
import math
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.errors import Fault, InferError
from deuteron.proto.kserve_http.document import MAX_CONTAINERS, parse_document

UNREADABLE = {
    b"": "The document is empty. at 0",
    b" \n ": "The document is empty. at 3",
    b"}": "The document is empty. at 0",
    b"x": "Invalid value. at 0",
    b"this is not JSON": "Invalid value. at 1",
    b"[1,]": "Invalid value. at 3",
    b"[1,": "Invalid value. at 3",
    b"[": "Invalid value. at 1",
    b"[trua]": "Invalid value. at 4",
    b"[nul": "Invalid value. at 4",
    b"[-]": "Invalid value. at 2",
    b"[-x]": "Invalid value. at 2",
    b'{"a":}': "Invalid value. at 5",
    b"{1:2}": "Missing a name for object member. at 1",
    b'{"a":1,}': "Missing a name for object member. at 7",
    b"{": "Missing a name for object member. at 1",
    b'{"a" 1}': "Missing a colon after a name of object member. at 5",
    b'{"a":1 "b"}': "Missing a comma or '}' after an object member. at 7",
    b'{"a":[1,{}],"b":"]" 1': "Missing a comma or '}' after an object member. at 20",
    b"[1 2]": "Missing a comma or ']' after an array element. at 3",
    b'{"a":[1,"}" 2]}': "Missing a comma or ']' after an array element. at 12",
    b"[[1]": "Missing a comma or ']' after an array element. at 4",
    b"{} {}": "The document root must not be followed by other values. at 3",
    b"01": "The document root must not be followed by other values. at 1",
    b'"abc': "Missing a closing quotation mark in string. at 4",
    b'["\xc3\xa9\\x"]': "Invalid escape character in string. at 4",
    b'["\\u12G4"]': "Incorrect hex digit after \\u escape in string. at 2",
    b'["a\nb"]': "Invalid escape character in string. at 3",
    b"[-null]": "Invalid value. at 2",
    b"[1e4.0]": "Missing a comma or ']' after an array element. at 4",
    b'["a\0b"]': "Missing a closing quotation mark in string. at 3",
    b"[1.]": "Miss fraction part in number. at 3",
    b"[1.5e+]": "Miss exponent in number. at 6",
    b"[" + b"9" * 5000 + b"]": "Number too big to be stored in double. at 1",
}


@pytest.mark.parametrize(("text", "complaint"), UNREADABLE.items(), ids=map(repr, range(len(UNREADABLE))))
def test_what_is_no_json_is_refused_in_rapidjsons_words(text: bytes, complaint: str) -> None:
    with pytest.raises(InferError) as refusal:
        parse_document(text)
    assert refusal.value.message == f"failed to parse the request JSON buffer: {complaint}"
    assert refusal.value.fault is Fault.INTERNAL


def test_literals_of_floating_point_are_numbers() -> None:
    document = parse_document(b'{"data":[NaN,Infinity,-Infinity,1]}')
    assert isinstance(document, dict)
    nan, infinity, minus_infinity, one = document["data"]
    assert math.isnan(nan)
    assert (infinity, minus_infinity, one) == (math.inf, -math.inf, 1)


def test_bytes_that_are_no_unicode_stay_what_they_are() -> None:
    document = parse_document(b'["\xff\xc3\xa9"]')
    assert isinstance(document, list)
    assert document[0].encode("utf-8", "surrogateescape") == b"\xff\xc3\xa9"


def test_an_id_is_always_fit_for_an_answer() -> None:
    """It comes back in JSON, which has no room for bytes that are no Unicode."""
    assert parse_document(b'{"id":"a\xff"}') == {"id": "a?"}


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_document(b"\xef\xbb\xbf{}") == {}


def test_numbers_beyond_64_bits_become_doubles() -> None:
    assert parse_document(b"[18446744073709551615,18446744073709551616]") == [2**64 - 1, float(2**64)]


def test_nesting_has_an_end() -> None:
    with pytest.raises(InferError) as refusal:
        parse_document(b"[" * 100_000)
    assert refusal.value.message == (
        "Unable to parse 'data': JSON nesting depth exceeds maximum allowed limit (100)"
    )


def test_a_long_text_is_not_searched_for_the_bracket_of_a_mistake() -> None:
    with pytest.raises(InferError, match="']' after an array element"):
        parse_document(b'{"a":"' + b"x" * (1 << 20) + b'" 1}')


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
)


@given(JSON_VALUES, st.data())
def test_any_text_is_a_document_or_refused(value: object, data: st.DataObject) -> None:
    """Whole documents, cut ones and ones with a byte changed: an answer or an InferError."""
    text = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.sampled_from(["none", "cut", "change", "insert"]))
    if damage == "cut":
        del text[at:]
    elif damage != "none":
        text[at : at + (damage == "change")] = data.draw(st.binary(min_size=1, max_size=2))
    try:
        document = parse_document(text)
    except InferError as refusal:
        assert refusal.message.startswith("failed to parse the request JSON buffer: ")  # noqa: PT017
        assert damage != "none"
    else:
        assert damage != "none" or json.dumps(document) == json.dumps(value)


def test_a_text_may_have_many_arrays_and_no_more() -> None:
    assert len(cast("list[object]", parse_document(b"[" + b"[]," * (MAX_CONTAINERS - 2) + b"[]]"))) > 10**6
    with pytest.raises(InferError) as error:
        parse_document(b"[" + b"{}," * MAX_CONTAINERS + b"{}]")
    assert (error.value.fault, error.value.message) == (
        Fault.INVALID_ARG,
        "request JSON has 1048578 arrays and objects, more than the 1048576 that are supported",
    )
