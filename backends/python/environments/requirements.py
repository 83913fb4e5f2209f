"""An environment from a `requirements.txt` beside a model, made by venv and pip for the server's own Python.

Its key is what the file says, with all files that it names, and the Python it is for: two models that say the
same share one. What pip installs comes first; behind it the model sees the packages of the server, so numpy
is there in any case, and a large package that the server has need not be installed again. Which index pip
asks, or whether any, is decided by pip's own configuration.
"""

import hashlib
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import structlog

from ....proto.errors import Fault, InferError, internal
from .store import Store

log: Final = structlog.stdlib.get_logger("deuteron.environments")

FILENAME: Final = "requirements.txt"
MAX_BYTES: Final = 1 << 20
"""Bytes that a file of requirements may have."""
LINES_TOLD: Final = 20
"""Lines of pip's output that are told when it fails."""


def find_requirements(version_directory: Path, model_directory: Path) -> Path | None:
    """Return the requirements of a version, or those of all its versions; None where there are none."""
    candidates = (version_directory / FILENAME, model_directory / FILENAME)
    return next((each for each in candidates if each.is_file()), None)


def required_environment(requirements: Path, store: Store, model: str) -> Path:
    """Return an environment with what the file requires; blocks. Raises InferError where it cannot be had."""

    def build(place: Path) -> None:
        log.info("environment is being built", model=model, requirements=str(requirements), place=str(place))
        _run([sys.executable, "-m", "venv", "--without-pip", str(place)], requirements, model)
        python = str(place / "bin" / "python")
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-input"]
        options = ["--disable-pip-version-check", "--progress-bar=off", "-r", requirements.name]
        _run([*install, *options], requirements, model)
        _show_packages_of_the_server(place)
        log.info("environment is built", model=model, place=str(place))

    return store.get(f"requirements-{_key(requirements)}", model, build)


def _run(command: list[str], requirements: Path, model: str) -> None:
    """Run one step, its output into the log as it comes; raises InferError with its end if it fails."""
    told: list[str] = []
    with subprocess.Popen(  # noqa: S603 - venv and pip
        command,
        cwd=requirements.parent,  # so that paths in the file are relative to it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            words = line.rstrip()
            log.info(words, model=model)
            told = [*told[1 - LINES_TOLD :], words]
    if process.returncode:
        raise internal(
            f"environment of model '{model}' cannot be built from '{requirements}': "
            f"{command[2]} exited with status {process.returncode}:\n" + "\n".join(told)
        )


def _show_packages_of_the_server(place: Path) -> None:
    """Let the environment see, behind its own packages, those of the server."""
    paths = sysconfig.get_paths()
    own = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    servers = dict.fromkeys((paths["purelib"], paths["platlib"]))
    (Path(own) / "packages_of_the_server.pth").write_text("".join(f"{each}\n" for each in servers))


def _key(requirements: Path) -> str:
    """Return what tells the environment from all others; raises InferError."""
    digest = hashlib.sha256()
    for fact in (sys.version, sys.prefix, sysconfig.get_platform(), sysconfig.get_paths()["purelib"]):
        digest.update(f"{len(fact)}:{fact}".encode())
    _add(digest, requirements, set())
    return digest.hexdigest()[:32]


def _add(digest: "hashlib._Hash", file: Path, seen: set[Path]) -> None:
    """Add a file, and those it names: other requirements, constraints, wheels that lie there."""
    if file in seen:
        return
    seen.add(file)
    with file.open("rb") as opened:
        if file.suffix == ".txt":
            content = opened.read(MAX_BYTES + 1)
            digest.update(content)
        else:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
            return
    if len(content) > MAX_BYTES:
        raise InferError(Fault.INVALID_ARG, f"'{file}' has more than {MAX_BYTES} bytes")
    for named in _named_files(content.decode(errors="replace"), file.parent):
        _add(digest, named, seen)


def _named_files(text: str, directory: Path) -> list[Path]:
    files = []
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = line.split()
        paths = [directory / word.rpartition("=")[2].removeprefix("file:") for word in words]
        files += [path.resolve() for path in paths if path.is_file()]
    return files
