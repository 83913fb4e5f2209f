"""What counts as a change of a model's files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deuteron.backends.fingerprints import Fingerprints
from deuteron.backends.model_directory import ModelDirectory

Take = Callable[[], Fingerprints]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a model of two versions, with labels."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "model.onnx").write_text(version)
    (tmp_path / "config.pbtxt").write_text("")
    (tmp_path / "labels.txt").write_text("")
    return tmp_path


@pytest.fixture
def take(model: Path) -> Take:
    return lambda: ModelDirectory(model).fingerprints()


def test_untouched_files_have_the_same_fingerprints(take: Take) -> None:
    assert take() == take()
    assert set(take().versions) == {1, 2}


@pytest.mark.parametrize("name", ["1/model.onnx", "1/deep/er/more.bin"])
def test_a_file_beneath_a_version_is_a_change_of_that_version(model: Path, take: Take, name: str) -> None:
    before = take()
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("more than before")
    after = take()
    assert after.of_version(1) != before.of_version(1)
    assert after.of_version(2) == before.of_version(2)
    assert after.configuration == before.configuration


def test_a_time_of_modification_is_a_change_in_either_direction(model: Path, take: Take) -> None:
    before = take()
    os.utime(model / "1" / "model.onnx", ns=(1, 1))
    assert take().of_version(1) != before.of_version(1)


@pytest.mark.parametrize("name", ["config.pbtxt", "configs/other.pbtxt"])
def test_a_configuration_is_a_change_of_no_version(model: Path, take: Take, name: str) -> None:
    before = take()
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("backend: 'identity'")
    after = take()
    assert after.configuration != before.configuration
    assert (after.versions, after.others) == (before.versions, before.others)


def test_what_all_share_is_a_change_of_all(model: Path, take: Take) -> None:
    before = take()
    (model / "labels.txt").write_text("a\n")
    assert all(take().of_version(each) != before.of_version(each) for each in (1, 2))


def test_what_python_leaves_behind_and_what_is_hidden_is_no_change(model: Path, take: Take) -> None:
    before = take()
    (model / "1" / "__pycache__").mkdir()
    (model / "1" / "__pycache__" / "model.pyc").write_text("compiled")
    (model / "1" / ".model.py.swp").write_text("being edited")
    (model / ".git").mkdir()
    assert take() == before


def test_links_in_a_circle_and_links_to_nothing_come_to_an_end(model: Path, take: Take) -> None:
    (model / "1" / "up").symlink_to(model)
    (model / "1" / "too").symlink_to(model)
    (model / "2" / "nothing").symlink_to(model / "nowhere")
    assert take() == take()


def test_a_link_is_what_it_leads_to(
    model: Path, take: Take, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As in volumes of Kubernetes, whose files are links that are switched all at once."""
    target = tmp_path_factory.mktemp("target") / "weights"
    target.write_text("one")
    (model / "1" / "weights").symlink_to(target)
    before = take()
    target.write_text("another")
    assert take().of_version(1) != before.of_version(1)
