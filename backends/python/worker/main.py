"""The program that the server starts for each interpreter: it imports what workers need, and forks them.

It is run by its path, with any Python that has numpy. The package it belongs to is found by its path too, and
so is msgpack where the Python has none; nothing else of the server's environment is in the way of the models.

    python main.py DESCRIPTOR PACKAGE DIRECTORY MSGPACK
"""

import importlib
import importlib.util
import os
import sys


def main() -> None:
    """Serve as the command line says."""
    descriptor, package, directory, msgpack = sys.argv[1:]
    sys.argv = [""]  # as in Triton: models have no command line, and some look at it all the same
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120, PTH100 - `pathlib` would cost a tenth of the start
    if sys.path and os.path.abspath(sys.path[0]) == here:  # noqa: PTH100
        del sys.path[0]  # Python put it there; models must not find our modules by their bare names
    _adopt(package, directory)
    if importlib.util.find_spec("msgpack") is None:
        _adopt("msgpack", msgpack)  # where its compiled part does not fit this Python it does without
    below = f"{package}.backends.python.worker"
    fork_server = importlib.import_module(f"{below}.fork_server")
    worker = importlib.import_module(f"{below}.worker")
    fork_server.serve(int(descriptor), worker.work)


def _adopt(package: str, directory: str) -> None:
    """Import a package from its directory, wherever Python looks otherwise."""
    file = os.path.join(directory, "__init__.py")  # noqa: PTH118
    spec = importlib.util.spec_from_file_location(package, file, submodule_search_locations=[directory])
    if spec is None or spec.loader is None:
        raise ImportError(directory)
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
