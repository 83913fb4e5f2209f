"""The modules of a model, kept apart from those of all other models of the process.

Triton runs each model instance in a process of its own, so each may call its modules what it likes; every
second model has a `utils.py`. Here they share one interpreter with one `sys.modules`. So each instance's code
is a package with a name of its own, and its modules are found there by relative imports, as everywhere, and
by absolute ones too: every such module has an `__import__` of its own that looks into the package for what
only the model's directories hold. What is importable elsewhere is imported from there, since Triton looks
into the model's directories last.

The directories are at the end of `sys.path` as well, for what goes round the `import` statement, such as
pickles that name classes; for these the model that was loaded first wins.

Sources are compiled anew each time: a cache would be written into the model repository, and a repository that
changes by being read looks modified.
"""

import builtins
import importlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from .api.caller import Caller, forget, register

_PREFIX: Final = "triton_model_"
_serial = itertools.count()
_packages: Final[dict[str, "ModelPackage"]] = {}


class ModelPackage:
    """The package of one model instance; its modules live until it is closed."""

    def __init__(self, version_directory: Path, model_directory: Path) -> None:
        self.name = f"{_PREFIX}{next(_serial)}"
        self.directories = [str(version_directory), str(model_directory)]
        self._private: dict[str, bool] = {}
        package = ModuleType(self.name)
        package.__path__ = self.directories
        _packages[self.name] = self
        sys.modules[self.name] = package
        sys.path.extend(self.directories)
        self.caller = Caller(str(version_directory))
        register(self.name, self.caller)

    def load(self, stem: str) -> ModuleType:
        """Import a module of the package; raises what its code raises."""
        importlib.invalidate_caches()
        return importlib.import_module(f"{self.name}.{stem}")

    def close(self) -> None:
        """Let go of all modules."""
        forget(self.name)
        for directory in self.directories:
            if directory in sys.path:  # the model may have changed it
                sys.path.remove(directory)
        for name in [each for each in list(sys.modules) if each.partition(".")[0] == self.name]:
            sys.modules.pop(name, None)
        _packages.pop(self.name, None)

    def import_module(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - what `__import__` calls it
        locals: Mapping[str, object] | None = None,  # noqa: A002 - what `__import__` calls it
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as `__import__` does, but look into this package for what only the model has."""
        head = name.partition(".")[0]
        if level or not self._owns(head):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{self.name}.{head}"]

    def _owns(self, head: str) -> bool:
        known = self._private.get(head)
        if known is None:
            known = self._private[head] = self._is_private(head)
        return known

    def _is_private(self, head: str) -> bool:
        here = PathFinder.find_spec(head, self.directories)
        if here is None or head in sys.stdlib_module_names:
            return False
        # Copied first: other instances are being loaded on other threads.
        of_models = {each for package in list(_packages.values()) for each in package.directories}
        there = PathFinder.find_spec(head, [each for each in sys.path if each not in of_models])
        # A directory without `__init__.py` has no origin, and counts only where nothing better is found.
        return there is None or (there.origin is None and here.origin is not None)


class _PrivateLoader(SourceFileLoader):
    """Loads a module that imports through its package."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        package = _packages[module.__name__.partition(".")[0]]
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": package.import_module}
        super().exec_module(module)


class _PrivateFinder(MetaPathFinder):
    """Finds modules below the packages of models."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _PrivateLoader(fullname, spec.loader.path)
        return spec


sys.meta_path.insert(0, _PrivateFinder())
