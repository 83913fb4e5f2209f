"""Canaries: what a configuration says of how a new version is tried on a part of the requests.

A model whose parameters have `canary.share` or `canary.parameter` does not take the place of its predecessor
at once; see `actors/canary.py` for what becomes of it. All is said in parameters, as strings, which Triton
hands to the model and otherwise leaves alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..message import ParameterValue
from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry

PREFIX: Final = "canary."


@dataclass(frozen=True, slots=True)
class CanaryPolicy:
    """How a new version is tried."""

    share: float = 0.0
    """The part of the requests it gets, from 0 to 1."""
    parameter: str = ""
    """Requests with this parameter are for it in any case: a name, or `name=value`."""
    min_requests: int = 100
    """Answers it has to give before it is promoted, or judged by its latency."""
    seconds: float = 60.0
    """How long it is tried at least, and how long it may be silent while it is asked."""
    max_error_rate: float = 0.01
    """The part of its answers that may be errors, beside what the predecessor fails."""
    max_latency_ratio: float = 2.0
    """How much longer it may take on average than its predecessor."""

    def claims(self, parameters: Mapping[str, ParameterValue]) -> bool:
        """Whether a request with these parameters is for the new version in any case."""
        if not self.parameter or not parameters:
            return False
        name, equals, value = self.parameter.partition("=")
        found = parameters.get(name)
        return found is not None and (not equals or str(found) == value)


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = float(text)
        if not low <= number <= high:
            raise ValueError(text)
        return number

    return read


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _name(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(text)
    return text


_READ: Final[Mapping[str, tuple[Callable[[str], object], str]]] = MappingProxyType(
    {
        "share": (_number(0, 1), "a number from 0 to 1"),
        "parameter": (_name, "the name of a request parameter, or name=value"),
        "min_requests": (_count, "a whole number above 0"),
        "seconds": (_number(0, 1e9), "a number of seconds"),
        "max_error_rate": (_number(0, 1), "a number from 0 to 1"),
        "max_latency_ratio": (_number(0, math.inf), "a number"),
    }
)
"""How the value of each parameter is read, and what it is to be."""


def check_canary(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check the parameters that speak of a canary."""
    said = sorted(name for name in config.parameters if name.startswith(PREFIX))
    for name in said:
        path = f"parameters{entry(name)}"
        known = _READ.get(name.removeprefix(PREFIX))
        if known is None:
            names = ", ".join(PREFIX + each for each in _READ)
            yield Complaint(f"unknown parameter '{name}' for {config.name}; known are {names}", path)
            continue
        read, what = known
        value = config.parameters[name].string_value
        try:
            read(value)
        except ValueError:
            yield Complaint(f"parameter '{name}' for {config.name} must be {what}, got '{value}'", path)
    if said and config.HasField("sequence_batching"):
        yield Complaint(
            f"a canary cannot be tried on model {config.name}, whose requests come in sequences",
            f"parameters{entry(said[0])}",
        )


def canary_policy(parameters: Mapping[str, str]) -> CanaryPolicy | None:
    """Return what the parameters of a valid configuration say; None where they want no canary."""
    said = {name.removeprefix(PREFIX): value for name, value in parameters.items() if name.startswith(PREFIX)}
    if not {"share", "parameter"} & said.keys():
        return None
    return CanaryPolicy(**{name: _READ[name][0](value) for name, value in said.items()})  # type: ignore[arg-type] # the table reads each as its field is typed
