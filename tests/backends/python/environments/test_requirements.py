"""Environments made of requirements: from wheels that lie beside the model, without any index."""

import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from deuteron.backends.python.environments.requirements import find_requirements, required_environment
from deuteron.backends.python.environments.store import Store
from deuteron.proto.errors import InferError

from .wheels import write_wheel

LOCAL = "--no-index\n--find-links wheels\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Keep environments with the test."""
    return Store(str(tmp_path / "store"))


def require(directory: Path, text: str) -> Path:
    """Write a file of requirements, and a wheel of two versions beside it."""
    for version in ("1.0", "2.0"):
        write_wheel(directory / "wheels", version)
    (directory / "requirements.txt").write_text(LOCAL + text)
    return directory / "requirements.txt"


def told(environment: Path, program: str) -> str:
    """Run a program with the Python of an environment; return what it prints."""
    command = [str(environment / "bin" / "python"), "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_two_environments_have_two_versions_of_one_library(tmp_path: Path, store: Store) -> None:
    for version in ("1.0", "2.0"):
        requirements = require(tmp_path / version, f"tiny=={version}\n")
        environment = required_environment(requirements, store, "model")
        assert told(environment, "import tiny; print(tiny.VERSION)") == version


def test_an_environment_sees_the_packages_of_the_server_behind_its_own(tmp_path: Path, store: Store) -> None:
    write_wheel(tmp_path / "wheels", "9.0", name="structlog")
    environment = required_environment(require(tmp_path, "structlog==9.0\n"), store, "model")
    assert told(environment, "import structlog, numpy; print(structlog.VERSION)") == "9.0"


def test_a_warm_store_asks_no_index_and_says_nothing(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = require(tmp_path, "tiny==1.0\n")
    with caplog.at_level(logging.INFO):
        built = required_environment(requirements, store, "model")
    shutil.rmtree(tmp_path / "wheels")
    monkeypatch.setenv("PATH", "")
    assert required_environment(requirements, store, "model") == built
    elsewhere = tmp_path / "twin" / "requirements.txt"
    elsewhere.parent.mkdir()
    shutil.copy(requirements, elsewhere)
    assert required_environment(elsewhere, store, "other model") == built


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(tmp_path / "model", "tiny==1.0\n")
    monkeypatch.chdir(tmp_path)
    requirements = find_requirements(Path("model") / "1", Path("model"))
    assert requirements is not None
    environment = required_environment(requirements, Store("store"), "model")
    assert environment.is_relative_to(tmp_path / "store")
    assert told(environment, "import tiny; print(tiny.VERSION)") == "1.0"


def test_what_is_required_is_told_apart_by_all_that_the_file_names(tmp_path: Path, store: Store) -> None:
    requirements = require(tmp_path, "-r more.txt\n./wheels/tiny-1.0-py3-none-any.whl\n")
    (tmp_path / "more.txt").write_text("# nothing yet\n")
    first = required_environment(requirements, store, "model")
    write_wheel(tmp_path / "wheels", "3.0", name="other")
    (tmp_path / "more.txt").write_text("other\n")
    second = required_environment(requirements, store, "model")
    assert told(second, "import other, tiny; print(other.VERSION, tiny.VERSION)") == "3.0 1.0"
    write_wheel(tmp_path / "wheels", "1.0", requires="other")
    third = required_environment(requirements, store, "model")
    assert len({first, second, third}) == 3


def test_what_cannot_be_installed_is_told_with_the_words_of_pip(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InferError, match="environment of model 'model' cannot be built") as caught:
        required_environment(require(tmp_path, "tiny==7.0\n"), store, "model")
    assert "No matching distribution found for tiny==7.0" in caught.value.message
    environment = required_environment(require(tmp_path, "tiny==1.0\n"), store, "model")
    assert told(environment, "import tiny; print(tiny.VERSION)") == "1.0"


def test_requirements_of_a_version_come_before_those_of_its_model(tmp_path: Path) -> None:
    version = tmp_path / "1"
    version.mkdir()
    assert find_requirements(version, tmp_path) is None
    (tmp_path / "requirements.txt").touch()
    assert find_requirements(version, tmp_path) == tmp_path / "requirements.txt"
    (version / "requirements.txt").touch()
    assert find_requirements(version, tmp_path) == version / "requirements.txt"
