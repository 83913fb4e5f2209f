"""The kinds of model this house can serve: a backend's name → the backend, imported on first use.

A backend may need a package that is not installed. That is no fault of a server without models of that kind,
so it is found out, and told, when the first such model is loaded.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Final, cast

from ..proto.errors import Fault, InferError, invalid
from .api import Backend, Settings
from .bindings import Bindings
from .house import House


class Need(Enum):
    """What a backend is made with besides its settings."""

    SETTINGS = "nothing else"
    HOUSE = "whom its models may ask"
    BINDINGS = "the functions that are its models"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a backend lies: a module of this floor, a class in it, and the extra with what it needs."""

    module: str
    class_name: str
    extra: str = ""
    needs: Need = Need.SETTINGS
    """What it is made with besides its settings."""


ENTRIES: Final[Mapping[str, Entry]] = {
    "callable": Entry(".callables.backend", "CallableBackend", needs=Need.BINDINGS),
    "dyna_sequence": Entry(".accumulator", "CorrelatedAccumulatorBackend"),
    "identity": Entry(".identity", "IdentityBackend"),
    "iterative_sequence": Entry(".iterative_sequence", "IterativeSequenceBackend"),
    "onnxruntime": Entry(".onnxruntime", "OnnxRuntimeBackend", extra="onnx"),
    "python": Entry(".python.backend", "PythonBackend", needs=Need.HOUSE),
    "pytorch": Entry(".pytorch.backend", "PyTorchBackend", extra="torch"),
    "repeat": Entry(".repeaters", "RepeatBackend"),
    "sequence": Entry(".accumulator", "AccumulatorBackend"),
    "square": Entry(".repeaters", "SquareBackend"),
}


class Catalog:
    """Finds backends by name, and makes each at most once; may be asked from any lane."""

    def __init__(
        self,
        settings: Mapping[str, Settings] | None = None,
        house: House | None = None,
        bindings: Bindings | None = None,
    ) -> None:
        """Take the settings of each backend, those for all under the empty name, and what backends need."""
        self._needed: Mapping[Need, tuple[object, ...]] = {
            Need.SETTINGS: (),
            Need.HOUSE: (house,),
            Need.BINDINGS: (bindings or Bindings(),),
        }
        self._settings = settings or {}
        self._made: dict[str, Backend] = {}
        # One lock for each: a model of one kind does not wait while the engine of another is imported.
        self._locks = {name: threading.Lock() for name in ENTRIES}

    def find(self, name: str) -> Backend:
        """Return the backend of a name; raises InferError where it is unknown or lacks a package."""
        if name not in ENTRIES:
            raise invalid(
                f"unable to find backend library for backend '{name}', "
                "try specifying runtime on the model configuration."
            )
        with self._locks[name]:
            backend = self._made.get(name)
            if backend is None:
                backend = self._made[name] = self._make(name, ENTRIES[name])
            return backend

    def _make(self, name: str, entry: Entry) -> Backend:
        try:
            module = import_module(entry.module, __package__)
        except ImportError as error:
            if not entry.extra:
                raise
            raise InferError(
                Fault.UNAVAILABLE,
                f"backend '{name}' needs a package that cannot be imported ({error}): "
                f"pip install 'deuteron[{entry.extra}]'",
            ) from error
        settings = {**self._settings.get("", {}), **self._settings.get(name, {})}
        return cast("Backend", getattr(module, entry.class_name)(settings, *self._needed[entry.needs]))
