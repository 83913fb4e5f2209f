"""An environment that a model brings along: a directory, or an archive that conda-pack made.

An archive is unpacked once for each of its states, told by path, size and time, as in Triton. It comes with
the model and may not write anywhere else: members that lead out of it are refused, in the words that Triton's
library has for them.
"""

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from ....proto.errors import internal
from .store import Store

log: Final = structlog.stdlib.get_logger("deuteron.environments")

PARAMETER: Final = "EXECUTION_ENV_PATH"
MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
ACTIVATE_SECONDS: Final = 60
_OF_THE_SHELL: Final = frozenset({"_", "COLUMNS", "LINES", "OLDPWD", "PS1", "PWD", "SHLVL"})
UNPACK_SCRIPT: Final = "conda-unpack"


def brought_environment(value: str, model_directory: Path, store: Store, model: str) -> Path:
    """Return the environment that a value of EXECUTION_ENV_PATH leads to; blocks. Raises InferError."""
    path = Path(value.replace(MODEL_DIRECTORY, str(model_directory)))
    try:
        path = path.resolve(strict=True)
    except OSError:
        raise internal(f"Failed to get the canonical path for {path}.") from None
    if path.is_dir():
        return path

    def build(place: Path) -> None:
        log.info("Extracting Python execution env %s", path, model=model)
        _unpack(path, place)
        script = place / "bin" / UNPACK_SCRIPT
        if script.is_file():
            _fix_paths(script)

    return store.get(f"archive-{_key(path)}", model, build)


def activated(environment: Path) -> dict[str, str]:
    """Return what activating an environment changes in the variables of a process; raises InferError."""
    script = environment / "bin" / "activate"
    if not script.is_file():
        return {"PATH": os.pathsep.join((str(environment / "bin"), os.environ.get("PATH", os.defpath)))}
    command = ["bash", "-c", 'source "$0" > /dev/null && env -0', str(script)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ACTIVATE_SECONDS, check=True)  # noqa: S603 - a script of the operator's own
    except (OSError, subprocess.SubprocessError) as error:
        raise internal(f"environment '{environment}' cannot be activated: {error}") from None
    pairs = [line.partition("=") for line in done.stdout.decode(errors="surrogateescape").split("\0") if line]
    return {
        name: value for name, _, value in pairs if name not in _OF_THE_SHELL and os.environ.get(name) != value
    }


def _key(archive: Path) -> str:
    status = archive.stat()
    state = f"{archive}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:32]


def _unpack(archive: Path, place: Path) -> None:
    try:
        with tarfile.open(archive) as packed:
            place.mkdir()
            for member in packed:
                _check(member)
                packed.extract(member, place, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise internal(f"archive '{archive}' cannot be unpacked: {error}") from error


def _check(member: tarfile.TarInfo) -> None:
    """Raise InferError for a member that leads out of its archive; the filter would bend some of them."""
    path = PurePosixPath(member.name)
    if path.is_absolute():
        raise internal(f"archive member '{member.name}' is refused: Path is absolute")
    if ".." in path.parts:
        raise internal(f"archive member '{member.name}' is refused: Path contains '..'")


def _fix_paths(script: Path) -> None:
    """Have an unpacked environment of conda learn where it is now."""
    python = script.with_name("python")
    done = subprocess.run(  # noqa: S603 - a script of the operator's own
        [python, script], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise internal(f"{UNPACK_SCRIPT} exited with status {done.returncode}: {done.stderr.strip()}")
