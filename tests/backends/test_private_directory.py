"""Files that come with a request lie in a directory of their own, and nowhere else."""

import tempfile
from pathlib import Path

import pytest

from deuteron.backends.private_directory import remove_private_directory, write_private_directory
from deuteron.proto.errors import InferError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary directories made in one that only this test knows."""
    directory = tmp_path / "inner" / "temporary"
    directory.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def everything(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


def test_files_lie_where_their_names_say(temporary: Path) -> None:
    directory = write_private_directory(
        "model", {"file:1/model.py": b"code", "file:labels.txt": b"a", "file:/2/./deep/../weights": b"w"}
    )
    assert directory.name == "model"
    assert directory.versions() == (1, 2)
    assert (directory.path / "1" / "model.py").read_bytes() == b"code"
    assert (directory.path / "2" / "weights").read_bytes() == b"w"
    assert directory.path.parent.stat().st_mode & 0o777 == 0o700
    remove_private_directory(directory)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("path", ["../up", "1/../../up", "/../up", "/", "", ".", "..", "1/..", "../model2/x"])
def test_a_path_that_leads_out_is_refused(path: str, temporary: Path, tmp_path: Path) -> None:
    with pytest.raises(InferError, match="must stay within model directory"):
        write_private_directory("model", {"file:1/model.py": b"code", f"file:{path}": b"hostile"})
    assert everything(tmp_path) == set()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("path", ["a\0b", "a" * 300, "1/model.py/inner", "1/./model.py"])
def test_a_path_that_no_file_can_have_is_refused(path: str, temporary: Path) -> None:
    with pytest.raises(InferError, match="files of model 'model' cannot be written"):
        write_private_directory("model", {"file:1/model.py": b"code", f"file:{path}": b"hostile"})
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("model", ["", ".", "..", "../other", "a/b", "/absolute"])
def test_the_name_of_a_model_is_no_path(model: str, temporary: Path) -> None:
    with pytest.raises(InferError, match="is not the name of a model"):
        write_private_directory(model, {"file:1/model.py": b"code"})
    assert list(temporary.iterdir()) == []


def test_removing_what_is_gone_is_no_mistake(temporary: Path) -> None:
    directory = write_private_directory("model", {"file:1/model.py": b"code"})
    remove_private_directory(directory)
    remove_private_directory(directory)
