"""Environments that models bring along, as directories and as archives."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from deuteron.backends.python.environments.execution_env import activated, brought_environment
from deuteron.backends.python.environments.store import Store
from deuteron.proto.errors import InferError

ARCHIVE = "$$TRITON_MODEL_DIRECTORY/env.tar.gz"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Keep environments with the test."""
    return Store(str(tmp_path / "store"))


def pack(model: Path, members: dict[str, bytes]) -> Path:
    """Write an archive into the directory of a model."""
    with tarfile.open(model / "env.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return model / "env.tar.gz"


def test_a_directory_is_taken_as_it_is(tmp_path: Path, store: Store) -> None:
    (tmp_path / "env").mkdir()
    for value in ("$$TRITON_MODEL_DIRECTORY/env", str(tmp_path / "env")):
        assert brought_environment(value, tmp_path, store, "model") == tmp_path / "env"


def test_an_archive_is_unpacked_once_for_each_of_its_states(tmp_path: Path, store: Store) -> None:
    archive = pack(tmp_path, {"bin/python": b"first"})
    first = brought_environment(ARCHIVE, tmp_path, store, "model")
    assert os.access(first / "bin" / "python", os.X_OK)
    (first / "bin" / "python").write_bytes(b"not unpacked again")
    assert brought_environment(ARCHIVE, tmp_path, store, "other") == first
    assert (first / "bin" / "python").read_bytes() == b"not unpacked again"
    os.utime(archive, ns=(1, 1))
    assert brought_environment(ARCHIVE, tmp_path, store, "model") != first


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("../outside", "Path contains '..'"),
        ("a/../../outside", "Path contains '..'"),
        ("/outside", "Path is absolute"),
    ],
)
def test_an_archive_that_leads_out_of_its_place_is_refused(
    tmp_path: Path, store: Store, name: str, text: str
) -> None:
    pack(tmp_path, {"bin/python": b"", name: b"evil"})
    with pytest.raises(InferError, match=text):
        brought_environment(ARCHIVE, tmp_path, store, "model")
    assert not list(tmp_path.rglob("outside"))
    assert not list((tmp_path / "store").glob("archive-*/"))


def test_a_link_that_leads_out_of_the_archive_is_refused(tmp_path: Path, store: Store) -> None:
    with tarfile.open(tmp_path / "env.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("bin")
        member.type, member.linkname = tarfile.SYMTYPE, "../../.."
        archive.addfile(member)
    with pytest.raises(InferError, match="cannot be unpacked"):
        brought_environment(ARCHIVE, tmp_path, store, "model")


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_file_that_is_no_archive_is_told_as_such(tmp_path: Path, store: Store, content: bytes) -> None:
    (tmp_path / "env.tar.gz").write_bytes(content)
    with pytest.raises(InferError, match=r"archive '.*env\.tar\.gz' cannot be unpacked"):
        brought_environment(ARCHIVE, tmp_path, store, "model")


def test_what_is_not_there_is_told_in_the_words_of_triton(tmp_path: Path, store: Store) -> None:
    with pytest.raises(InferError, match=f"Failed to get the canonical path for {tmp_path}/env.tar.gz"):
        brought_environment(ARCHIVE, tmp_path, store, "model")


def test_an_unpacked_environment_of_conda_learns_where_it_is(tmp_path: Path, store: Store) -> None:
    python = b'#!/bin/sh\necho "$1" > "$(dirname "$0")/told"\n'
    pack(tmp_path, {"bin/python": python, "bin/conda-unpack": b""})
    environment = brought_environment(ARCHIVE, tmp_path, store, "model")
    assert (environment / "bin" / "told").read_text() == f"{environment}/bin/conda-unpack\n"
    pack(tmp_path, {"bin/python": b"#!/bin/sh\necho gone >&2; exit 3\n", "bin/conda-unpack": b""})
    with pytest.raises(InferError, match="conda-unpack exited with status 3: gone"):
        brought_environment(ARCHIVE, tmp_path, store, "model")


def test_activation_changes_what_the_script_says_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert activated(tmp_path) == {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    script = tmp_path / "bin" / "activate"
    script.write_text(
        'here=$(dirname "$(dirname "${BASH_SOURCE[0]}")")\n'
        "export CONDA_PREFIX=$here PATH=\"$here/bin:$PATH\" TWO_LINES=$'a\\nb'\necho hello\n"
    )
    assert activated(tmp_path) == {
        "CONDA_PREFIX": str(tmp_path),
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "TWO_LINES": "a\nb",
    }
    script.write_text("exit 4\n")
    with pytest.raises(InferError, match="cannot be activated"):
        activated(tmp_path)
