"""A batching rule of a model's own: Python code beside the model that says who may join a batch.

A model names it by the parameter `TRITON_BATCH_STRATEGY_PATH`, in Triton the path of a library in C++, here
of a Python file beneath the model's directory, and behind a colon the name of a function if that is not
`batch_strategy`. Without the parameter a file `batchstrategy.py` is looked for in the version directory, then
in the model's. The function is called once, when the model loads, with the configuration as the protocol
tells it, and returns the rule:

    def batch_strategy(config):
        limit = int(config["parameters"]["MAX_BYTES"]["string_value"])
        return lambda batch, request: sum(each.byte_size for each in batch) + request.byte_size <= limit

The rule is asked with the requests that are gathered already and the next one that would fit. It runs on the
event loop, for each request that waits, so it has to be quick, and must change nothing. One that raises does
not let the request join: smaller batches are always right.
"""

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..proto.config import ModelConfig, to_json
from ..proto.errors import Fault, InferError, invalid
from ..proto.message import Parameters, Request
from ..proto.tensor import Shape
from .api import ModelFiles

PARAMETER: Final = "TRITON_BATCH_STRATEGY_PATH"
DEFAULT_FUNCTION: Final = "batch_strategy"
DEFAULT_FILE: Final = "batchstrategy.py"
LIBRARY: Final = "batchstrategy.so"
"""The file that Triton looks for."""

Joins = Callable[[Sequence[Request], Request], bool]
"""Whether a request may join those that are gathered; never raises."""
Complain = Callable[[str], None]
"""Takes what is wrong with a rule."""


class Candidate:
    """A waiting request, as a rule sees it; nothing of it may be changed."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        self._request = request

    @property
    def id(self) -> str:
        """The id that its client gave it, if any."""
        return self._request.id

    @property
    def rows(self) -> int:
        """Rows that it brings to a batch."""
        return self._request.batch_size

    @property
    def priority(self) -> int:
        """The priority that its client asked for; 0 for none."""
        return self._request.priority

    @property
    def parameters(self) -> Parameters:
        """The parameters that its client sent along."""
        return self._request.parameters

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of its inputs by name, with their rows."""
        return {name: tensor.shape for name, tensor in self._request.inputs.items()}

    @property
    def byte_size(self) -> int:
        """Bytes of all its inputs."""
        return sum(tensor.byte_size for tensor in self._request.inputs.values())


def load_strategy(config: ModelConfig, files: ModelFiles, complain: Complain) -> Joins | None:
    """Return the batching rule of a model, None where it has none; blocks.

    Raises InferError for a rule that cannot be had. What is wrong with it later is told once.
    """
    found = _find(config, files)
    if found is None:
        return None
    path, function = found
    try:
        make = runpy.run_path(str(path)).get(function)
        rule = make(to_json(config.message)) if callable(make) else None
    except Exception as error:
        raise invalid(
            f"batching strategy '{path.name}' of model '{config.name}' failed: {error!r}"
        ) from error
    if not callable(rule):
        raise invalid(
            f"batching strategy '{path.name}' of model '{config.name}' has no function '{function}' that "
            "returns a rule"
        )
    return _guarded(rule, complain)


def _find(config: ModelConfig, files: ModelFiles) -> tuple[Path, str] | None:
    """Return the file of a rule and the name of its function."""
    named = config.parameters.get(PARAMETER)
    if config.dynamic_batching is None:
        if named is not None and config.sequence_batching is not None:
            raise invalid(
                f"{PARAMETER} cannot be specified with sequence batcher, using default batching strategy"
            )
        return None
    directories = files.version_directory, files.directory
    if named is None:
        if any((directory / LIBRARY).exists() for directory in directories):
            raise _no_libraries(LIBRARY)
        there = (directory / DEFAULT_FILE for directory in directories)
        path = next((path for path in there if path.is_file()), None)
        return None if path is None else (path, DEFAULT_FUNCTION)
    name, _, function = named.partition(":")
    path = (files.directory / name).resolve()
    if not path.is_relative_to(files.directory.resolve()):
        raise invalid("Batching library path escapes model repository.")
    if not path.is_file():
        raise InferError(Fault.NOT_FOUND, f"Batching library path not found: {name}")
    if path.suffix != ".py":
        raise _no_libraries(name)
    return path, function or DEFAULT_FUNCTION


def _no_libraries(name: str) -> InferError:
    return InferError(
        Fault.UNSUPPORTED, f"batching strategies are Python files here, not libraries in C++: '{name}'"
    )


def _guarded(rule: Callable[[Sequence[Candidate], Candidate], Any], complain: Complain) -> Joins:
    told = False

    def joins(batch: Sequence[Request], request: Request) -> bool:
        nonlocal told
        try:
            return bool(rule(tuple(map(Candidate, batch)), Candidate(request)))
        except Exception as error:  # noqa: BLE001 - code of the model, which must not end its router
            if not told:
                told = True
                complain(f"Custom batching include function failed: {error!r}")
            return False

    return joins
