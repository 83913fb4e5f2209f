"""Exceptions of model code as text for clients and logs, in the format that pybind11 gives them."""

import importlib
import traceback
from pathlib import Path
from typing import Final

_NOT_THE_MODEL: Final = (
    str(Path(__file__).parents[1]),
    str(Path(importlib.__file__).parent),
    "<frozen importlib",
)
"""How the files of frames begin that lie between the house and the code of a model."""


def exception_text(error: BaseException) -> str:
    """Return type, message and the model's own frames of an exception, the innermost frame first."""
    frames = [
        f"  {frame.f_code.co_filename}({line}): {frame.f_code.co_name}\n"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_NOT_THE_MODEL)
    ]
    text = f"{type(error).__name__}: {_message(error)}"
    return f"{text}\n\nAt:\n{''.join(reversed(frames))}" if frames else text


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - whatever a model's `__str__` raises, the first error is told
        return f"<no message: its __str__ raised {type(second).__name__}>"
