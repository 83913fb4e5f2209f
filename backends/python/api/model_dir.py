"""`get_model_dir`: where the files of the calling model lie."""

from .caller import find_caller
from .errors import TritonModelException


def get_model_dir() -> str:
    """Return the version directory of the calling model."""
    caller = find_caller()
    if caller is None:
        raise TritonModelException("get_model_dir() was not called by the code of a model.")
    return caller.directory
