"""Self-tests on disk: the golden cases that lie beside a model, in `selftest/*.json`."""

from pathlib import Path
from typing import Final

from ..proto.errors import invalid
from ..proto.golden import MAX_GOLDEN_BYTES, GoldenCase, read_case

DIRECTORY: Final = "selftest"
"""Where, beneath the directory of a model, its cases lie."""
MAX_CASES: Final = 1024


def golden_cases(model: Path) -> list[GoldenCase]:
    """Return the cases of a model in the order of their names; blocks. Raises InferError for a bad one."""
    directory = model / DIRECTORY
    if not directory.is_dir():
        return []
    root = model.resolve()
    files = sorted(each for each in directory.iterdir() if each.suffix == ".json")
    if len(files) > MAX_CASES:
        raise invalid(f"{len(files)} self-tests are more than {MAX_CASES}")
    cases: list[GoldenCase] = []
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise invalid(f"self-test '{file.stem}' lies outside the model directory")
        try:
            with file.open("rb") as opened:
                text = opened.read(MAX_GOLDEN_BYTES + 1)
        except OSError as error:
            raise invalid(f"self-test '{file.stem}' cannot be read: {error.strerror}") from None
        if len(text) > MAX_GOLDEN_BYTES:
            raise invalid(f"self-test '{file.stem}' has more than {MAX_GOLDEN_BYTES} bytes")
        cases.append(read_case(file.stem, text))
    return cases
