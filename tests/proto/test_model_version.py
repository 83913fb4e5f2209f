import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import LATEST
from deuteron.proto.model_version import parse_model_version

UNREADABLE = (
    "failed to get model version from specified version string '{}' (details: stol), version should be an "
    "integral value > 0"
)
NEGATIVE = "invalid model version specified '{}' , version should be an integral value > 0"


@pytest.mark.parametrize(
    ("text", "version"),
    [("", LATEST), ("1", 1), ("0", 0), (" +12", 12), ("7x", 7), ("9223372036854775807", 2**63 - 1)],
)
def test_a_version_is_read_as_stol_does(text: str, version: int) -> None:
    assert parse_model_version(text) == version


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", UNREADABLE),
        ("-", UNREADABLE),
        ("٣", UNREADABLE),
        ("9223372036854775808", UNREADABLE),
        ("9" * 10_000, UNREADABLE),
        ("-1", NEGATIVE),
        ("-12three", NEGATIVE),
    ],
)
def test_what_is_no_version_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InferError) as refusal:
        parse_model_version(text)
    assert (refusal.value.message, refusal.value.fault) == (complaint.format(text), Fault.INVALID_ARG)


@given(st.text())
def test_any_text_is_a_version_or_refused(text: str) -> None:
    try:
        assert parse_model_version(text) >= LATEST
    except InferError:
        return
