"""`deuteron check` finds what would keep models from loading, and says where it is and what mends it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deuteron.service.cli import main

CONFIG = """
backend: "identity"
max_batch_size: 4
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] }]
"""

ENSEMBLE = """
platform: "ensemble"
max_batch_size: 4
input [{ name: "A" data_type: TYPE_FP32 dims: [ 2 ] }]
output [{ name: "B" data_type: TYPE_FP32 dims: [ 2 ] }]
ensemble_scheduling { step [{
  model_name: "STEP" model_version: -1
  input_map { key: "IN" value: "A" } output_map { key: "OUT" value: "B" }
}] }
"""

Write = Callable[..., None]
Check = Callable[..., tuple[int, str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model: its configuration, and files beside it."""

    def write_(name: str, config: str | bytes | None = CONFIG, **files: str) -> None:
        (tmp_path / name / "1").mkdir(parents=True)
        if config is not None:
            text = config if isinstance(config, bytes) else config.encode()
            (tmp_path / name / "config.pbtxt").write_bytes(text)
        for path, content in files.items():
            (tmp_path / name / path.replace("__", "/")).write_text(content)

    return write_


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Check the repository; return the exit status and what was found."""

    def check_(*options: str) -> tuple[int, str]:
        status = main(["check", str(tmp_path), *options])
        return status, capsys.readouterr().out

    return check_


def test_a_clean_repository_is_nothing_to_speak_of(write: Write, check: Check) -> None:
    write("plain")
    write("whole", ENSEMBLE.replace("STEP", "plain"))
    assert check() == (0, "")


def test_every_complaint_is_told_with_its_place(write: Write, check: Check, tmp_path: Path) -> None:
    write("m", CONFIG.replace("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ -7 ]").replace("4", "-4"))
    status, told = check()
    assert status == 1
    places = re.findall(rf"{tmp_path}/m/config.pbtxt:(\d+):(\d+): error: ", told)
    assert {line for line, _ in places} == {"3", "4", "5"}


@pytest.mark.parametrize(
    ("wrong", "right", "fix"),
    [
        ("max_batch_size", "max_batch_sise", "did you mean max_batch_size?"),
        ("TYPE_FP32 dims", "TYPE_FB32 dims", "did you mean TYPE_FP32?"),
        ('backend: "identity"', 'backend: "onyx"', "the backends are "),
        ('backend: "identity"', 'backend: "identity"\nname: "n"', "rename the directory"),
    ],
)
def test_what_is_often_mistaken_is_told_with_what_mends_it(
    write: Write, check: Check, wrong: str, right: str, fix: str
) -> None:
    write("m", CONFIG.replace(wrong, right))
    status, told = check()
    assert status == 1
    assert f"    fix: {fix}" in told or fix in told.partition("fix: ")[2]


def test_missing_files_are_found(write: Write, check: Check, tmp_path: Path) -> None:
    write("code", CONFIG.replace("identity", "python"))
    write("labelled", CONFIG.replace('"OUT"', '"OUT" label_filename: "l.txt"'))
    write("nothing", None)
    (tmp_path / "versionless").mkdir()
    (tmp_path / "versionless" / "config.pbtxt").write_text(CONFIG)
    status, told = check()
    assert status == 1
    assert "unable to find" in told
    assert "model.py' for model instance 'code'" in told
    assert "unable to read label file 'l.txt'" in told
    assert "model 'nothing' has neither a configuration" in told
    assert "model 'versionless' has no version" in told


def test_code_that_is_not_python_is_found_unrun(write: Write, check: Check, tmp_path: Path) -> None:
    write("bad", CONFIG.replace("identity", "python"), **{"1__model.py": "class X:\n    def f(:\n"})
    write("good", CONFIG.replace("identity", "python"), **{"1__model.py": "raise SystemExit('it ran')"})
    status, told = check()
    assert status == 1
    assert f"{tmp_path}/bad/1/model.py:2:" in told
    assert "good" not in told


def test_ensembles_are_held_against_their_models(write: Write, check: Check) -> None:
    write("plain")
    write("lost", ENSEMBLE.replace("STEP", "nobody"))
    write("circle", ENSEMBLE.replace("STEP", "circle"))
    bent = ENSEMBLE.replace("STEP", "plain")
    write("bent", bent.replace("TYPE_FP32 dims: [ 2 ] }]\nen", "TYPE_INT8 dims: [ 2 ] }]\nen"))
    status, told = check()
    assert status == 1
    assert "ensemble 'lost' has a step 'nobody', and there is no such model" in told
    assert "ensemble 'circle' leads to itself: circle → circle" in told
    assert "bent/config.pbtxt" in told
    assert "inconsistent data type: TYPE_INT8" in told


def test_a_model_that_says_by_code_what_it_takes_is_no_reason_to_refuse_an_ensemble(
    write: Write, check: Check
) -> None:
    write("code", None, **{"1__model.py": "class TritonPythonModel:\n    pass\n"})
    write("over", ENSEMBLE.replace("STEP", "code"))
    status, told = check()
    assert status == 0
    assert "was not held against its step 'code', which says by code what it takes" in told


def test_bytes_that_are_no_text_are_a_finding_like_others(write: Write, check: Check) -> None:
    write("m", b"\xff\xfe")
    status, told = check()
    assert status == 1
    assert "not UTF-8" in told


def test_machines_get_an_object_a_line(write: Write, check: Check, tmp_path: Path) -> None:
    write("m", "backend: 7")
    status, told = check("--json")
    assert status == 1
    (found,) = map(json.loads, told.splitlines())
    assert (found["model"], found["severity"], found["line"]) == ("m", "error", 1)
    assert found["file"] == str(tmp_path / "m" / "config.pbtxt")


def test_a_repository_that_is_none_cannot_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "absent")]) == 2
    assert "is not a valid directory" in capsys.readouterr().err


def test_warnings_count_where_it_is_strict(write: Write, check: Check) -> None:
    write("bent", CONFIG.replace("4", "-4"))
    write("over", ENSEMBLE.replace("STEP", "bent"))
    assert "warning: ensemble 'over' was not held against its step 'bent'" in check()[1]
