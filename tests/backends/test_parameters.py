"""Parameters are text that means numbers and choices."""

import pytest

from deuteron.backends.parameters import boolean, integer
from deuteron.proto.errors import InferError


@pytest.mark.parametrize(("text", "meaning"), [("7", 7), ("-1", -1), (" 12 ", 12)])
def test_a_number_is_read(text: str, meaning: int) -> None:
    assert integer({"key": text}, "key", 0) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("true", True), ("ON", True), ("1", True), ("False", False), ("off", False), ("0", False)],
)
def test_a_choice_is_read(text: str, meaning: bool) -> None:
    assert boolean({"key": text}, "key", default=not meaning) is meaning


def test_what_is_missing_is_the_default() -> None:
    assert integer({}, "key", 3) == 3
    assert boolean({}, "key", default=True) is True


@pytest.mark.parametrize("text", ["", "two", "1.5"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InferError) as number:
        integer({"key": text}, "key", 0)
    with pytest.raises(InferError) as choice:
        boolean({"key": text}, "key", default=True)
    assert number.value.titled == f"Invalid argument: failed to convert '{text}' to integral number"
    assert choice.value.titled == f"Invalid argument: failed to convert '{text}' to boolean"
