"""Ensembles as data flow: which steps of a graph can run, given the tensors that are there.

A `Graph` is what a configuration says, prepared once. A `Trip` is one request on its way through it: it holds
the ensemble tensors that exist so far, by name, and `absorb` tells which steps have just become ready. A
tensor that will never come, an optional input nobody sent or an output a step did not make, is *absent*, and
its readers run without it. Steps that feed nothing the client asked for do not run at all.

This is pure: the conductor round it sends steps as messages to the routers of their models.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ..proto.config import ModelConfig
from ..proto.config.model_config import EnsembleStep
from ..proto.tensor import Tensor

StepIndex = int

ABSENT: Final = None
"""Stands where a tensor will never come."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that is ready to run, its inputs under the names its model gives them."""

    index: StepIndex
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    """The outputs of its model that somebody needs."""


class Graph:
    """The steps of an ensemble, and who reads what."""

    __slots__ = ("_writers", "inputs", "outputs", "steps")

    def __init__(self, config: ModelConfig) -> None:
        assert config.ensemble is not None
        self.steps: tuple[EnsembleStep, ...] = config.ensemble.steps
        self.inputs = tuple(spec.name for spec in config.inputs)
        self.outputs = tuple(spec.name for spec in config.outputs)
        self._writers = {
            tensor: (index, output)
            for index, step in enumerate(self.steps)
            for output, tensor in step.output_map.items()
        }

    def writer_of(self, tensor: str) -> tuple[StepIndex, str] | None:
        """Return the step that makes an ensemble tensor and what its model calls it; None for an input."""
        return self._writers.get(tensor)

    def needed(self, wanted: Iterable[str]) -> tuple[frozenset[StepIndex], frozenset[str]]:
        """Return the steps, and the ensemble tensors, that the wanted ones depend on."""
        tensors: set[str] = set()
        steps: set[StepIndex] = set()
        frontier = list(wanted)
        while frontier:
            tensor = frontier.pop()
            if tensor in tensors:
                continue
            tensors.add(tensor)
            writer = self.writer_of(tensor)
            if writer is not None and writer[0] not in steps:
                steps.add(writer[0])
                frontier.extend(self.steps[writer[0]].input_map.values())
        return frozenset(steps), frozenset(tensors)


class Trip:
    """One request on its way through a graph."""

    __slots__ = ("_graph", "_needed", "_tensors", "_waiting", "wanted")

    def __init__(self, graph: Graph, requested: tuple[str, ...]) -> None:
        self._graph = graph
        self.wanted = requested or graph.outputs
        self._waiting, self._needed = graph.needed(self.wanted)
        self._tensors: dict[str, Tensor | None] = {}

    @property
    def ended(self) -> bool:
        """Whether every wanted tensor is there or known to be absent."""
        return all(name in self._tensors for name in self.wanted)

    def outputs(self) -> dict[str, Tensor]:
        """Return the wanted tensors that exist, in the order of the configuration."""
        found = {name: self._tensors.get(name) for name in self._graph.outputs if name in self.wanted}
        return {name: tensor for name, tensor in found.items() if tensor is not ABSENT}

    def begin(self, inputs: Mapping[str, Tensor]) -> list[Step]:
        """Set out with the tensors of the request; return the steps that can run at once."""
        for name in self._graph.inputs:
            self._tensors[name] = inputs.get(name, ABSENT)
        return self._ready()

    def absorb(self, index: StepIndex, outputs: Mapping[str, Tensor]) -> list[Step]:
        """Take what a step made; return the steps that can run now."""
        for output, tensor in self._graph.steps[index].output_map.items():
            self._tensors[tensor] = outputs.get(output, ABSENT)
        return self._ready()

    def _ready(self) -> list[Step]:
        ready = [
            index
            for index in sorted(self._waiting)
            if all(tensor in self._tensors for tensor in self._graph.steps[index].input_map.values())
        ]
        self._waiting = self._waiting.difference(ready)
        return [self._step(index) for index in ready]

    def _step(self, index: StepIndex) -> Step:
        step = self._graph.steps[index]
        found = {name: self._tensors[tensor] for name, tensor in step.input_map.items()}
        return Step(
            index,
            {name: tensor for name, tensor in found.items() if tensor is not ABSENT},
            tuple(name for name, tensor in step.output_map.items() if tensor in self._needed),
        )
