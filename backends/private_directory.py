"""Model files that come with a request: written into a private temporary directory, used, and removed.

Their names come from the network. Each is a path that must stay within the model, whatever it is spelt like;
the directory is made for this one load and nothing in it is a link.
"""

import posixpath
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..proto.errors import internal, invalid
from .model_directory import ModelDirectory

FILE_PREFIX: Final = "file:"
"""What the names of such parameters begin with; the path follows."""


@dataclass(frozen=True, slots=True)
class Override:
    """What a load request brings along instead of what the repository holds."""

    config: str | None = None
    """The configuration as JSON; None stands for that of the repository."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """All files of the model by the names of their parameters, such as `file:1/model.py`; or none."""


NO_OVERRIDE: Final = Override()
"""A load of what the repository holds."""


def write_private_directory(model: str, files: Mapping[str, bytes]) -> ModelDirectory:
    """Return a directory with these files; blocks. Raises InferError for names that cannot be used."""
    if model in ("", ".", "..") or "/" in model:
        raise invalid(f"'{model}' is not the name of a model")
    paths = {parameter: _inner_path(parameter) for parameter in files}
    root = Path(tempfile.mkdtemp(prefix="deuteron_"))
    directory = root / model
    try:
        directory.mkdir()
        for parameter, content in files.items():
            file = directory / paths[parameter]
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("xb") as opened:
                opened.write(content)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        shutil.rmtree(root)
        raise internal(f"files of model '{model}' cannot be written: {error}") from None
    return ModelDirectory(directory)


def remove_private_directory(directory: ModelDirectory) -> None:
    """Remove what `write_private_directory` made; blocks. What cannot be removed stays."""
    shutil.rmtree(directory.path.parent, ignore_errors=True)


def _inner_path(parameter: str) -> str:
    # As in Triton a path is joined to the directory of the model: one that begins at the root begins there.
    normal = posixpath.normpath(parameter.removeprefix(FILE_PREFIX).lstrip("/"))
    if normal in (".", "..") or normal.startswith("../"):
        raise invalid(
            f"Invalid file parameter '{parameter}' with normalized path '{normal}' "
            "must stay within model directory."
        )
    return normal
