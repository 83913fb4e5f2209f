"""Which Python runs a model: the server's own, or that of an environment the model has.

What a model brings along (EXECUTION_ENV_PATH) goes before what it requires (requirements.txt).
"""

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from ....proto.errors import internal
from ...api import ModelFiles
from ..remote.fork_servers import Interpreter
from .execution_env import PARAMETER, activated, brought_environment
from .requirements import find_requirements, required_environment
from .store import Store

PROBE: Final = "import sys, numpy; sys.exit(sys.version_info < (3, 11))"
PROBE_SECONDS: Final = 60


def find_interpreter(
    parameters: Mapping[str, str], files: ModelFiles, model: str, store: Store
) -> Interpreter | None:
    """Return the Python of a model's environment, made ready; None where it is content with the server's.

    Blocks, perhaps for minutes. Raises InferError where the environment cannot be had.
    """
    value = parameters.get(PARAMETER)
    if value:
        environment = brought_environment(value, files.directory, store, model)
        python = _python(environment)
        _probe(python, python.stat().st_mtime_ns, model)
        return Interpreter(str(python), activated(environment))
    requirements = find_requirements(files.version_directory, files.directory)
    if requirements is None:
        return None
    environment = required_environment(requirements, store, model)
    path = os.pathsep.join((str(environment / "bin"), os.environ.get("PATH", os.defpath)))
    return Interpreter(str(_python(environment)), {"VIRTUAL_ENV": str(environment), "PATH": path})


def _python(environment: Path) -> Path:
    for name in ("python", "python3"):
        python = environment / "bin" / name
        if python.exists():
            return python
    python = environment / "bin" / "python"
    raise internal(f"Path {python} does not exist. The Python environment should contain an interpreter.")


@cache
def _probe(python: Path, _changed: int, model: str) -> None:
    """Raise InferError for a Python that cannot run workers; one that can is not asked again."""
    command = [str(python), "-c", PROBE]
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own Python
            command, capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise internal(f"Python '{python}' of model '{model}' cannot be run: {error}") from None
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise internal(
            f"Python '{python}' cannot run model '{model}', for which it has to be 3.11 or later and to have "
            f"numpy: {last}"
        )
