"""The file, or directory, in a version directory that holds the model itself."""

from pathlib import Path

from ..proto.errors import Fault, InferError, invalid
from .api import ModelFiles


def find_artifact(files: ModelFiles, filename: str, model_name: str) -> Path:
    """Return the path of a model's file.

    Raises InferError if it is not there, or lies outside the repository: a configuration may come from the
    network, and a symbolic link from anywhere.
    """
    path = files.version_directory / filename
    repository = files.directory.resolve().parent
    if not path.resolve().is_relative_to(repository):
        raise invalid(f"model file '{filename}' of model '{model_name}' is outside of the model repository")
    if not path.exists():
        raise InferError(Fault.UNAVAILABLE, f"unable to find '{path}' for model instance '{model_name}'")
    return path
