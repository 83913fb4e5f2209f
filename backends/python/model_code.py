"""The code of one model instance, from its file to the class in it."""

import sys
from pathlib import Path
from typing import Any, Final

from ...proto.errors import internal
from .api import triton_python_backend_utils
from .api.names import EXTENSION_MODULE, UTILITIES_MODULE
from .private_import import ModelPackage

CLASS_NAME: Final = "TritonPythonModel"
SUFFIX: Final = ".py"


class ModelCode:
    """A model file and the modules beside it, imported for one instance alone."""

    def __init__(self, path: Path, model_directory: Path) -> None:
        """Take the file; raises InferError if it cannot be Python code."""
        if path.suffix != SUFFIX:
            raise internal(f"Model name must end with '{SUFFIX}'. Model name is \"{path.name}\".")
        self.path = path
        for name in (UTILITIES_MODULE, EXTENSION_MODULE):
            sys.modules.setdefault(name, triton_python_backend_utils)
        self._package = ModelPackage(path.parent, model_directory)
        self.caller = self._package.caller

    def model_class(self) -> type[Any]:
        """Import the file, return its class; raises what the code raises, and InferError if it has none."""
        module = self._package.load(self.path.stem)
        found: type[Any] | None = getattr(module, CLASS_NAME, None)
        if found is None:
            name = f"{self.path.parent.name}.{self.path.stem}"
            raise internal(f"AttributeError: module '{name}' has no attribute '{CLASS_NAME}'")
        return found

    def close(self) -> None:
        """Let go of the modules."""
        self._package.close()
