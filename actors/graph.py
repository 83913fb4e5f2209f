"""The graph of an ensemble: what its configuration says, prepared once for all requests.

Steps read and write ensemble tensors. Not all of them run for every request: a `Route` has the steps that the
outputs a client asked for depend on. It is cut into sections. A decoupled step answers any number of times,
and each of its answers is a way of its own through all that comes behind: the next section. Validation has
seen to it that no step joins tensors of different sections, so a section ends with at most one decoupled step
and every output lies in the last one.

This is pure, and knows nothing of a single request; see `ensemble`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..proto.config import ModelConfig
from ..proto.config.model_config import EnsembleStep

StepIndex = int

MAX_ROUTES: Final = 64
"""Routes that are kept, each for other outputs asked for; more are made anew each time."""


@dataclass(frozen=True, slots=True)
class Section:
    """The steps that run once for each answer of the decoupled step before them, or once in all."""

    missing: Mapping[StepIndex, int]
    """The number of tensors that each step waits for."""
    readers: Mapping[str, tuple[StepIndex, ...]]
    """Ensemble tensor → the steps that wait for it."""
    guarded: Mapping[str, tuple[StepIndex, ...]]
    """Ensemble tensor → the steps whose condition it decides."""
    writers: Mapping[str, int]
    """Ensemble tensor → the number of steps that may write it."""
    decoupled: StepIndex | None
    """The step whose answers lead to the next section."""


@dataclass(frozen=True, slots=True)
class Route:
    """What runs for the outputs that a client asked for."""

    wanted: tuple[str, ...]
    """These outputs, in the order of the configuration."""
    outputs: Mapping[StepIndex, tuple[str, ...]]
    """For each step the outputs of its model that somebody needs."""
    sections: tuple[Section, ...]


class Graph:
    """The steps of an ensemble, and who reads what."""

    __slots__ = ("_routes", "_writers", "decoupled", "inputs", "outputs", "required", "steps")

    def __init__(self, config: ModelConfig, models: Sequence[ModelConfig]) -> None:
        """Take the ensemble and the model of each of its steps, which fit together."""
        assert config.ensemble is not None
        self.steps: tuple[EnsembleStep, ...] = config.ensemble.steps
        self.inputs = tuple(spec.name for spec in config.inputs)
        self.outputs = tuple(spec.name for spec in config.outputs)
        self.decoupled = tuple(model.decoupled for model in models)
        self.required = tuple(
            frozenset(spec.name for spec in model.inputs if not spec.optional) for model in models
        )
        """For each step the inputs that its model cannot do without."""
        self._writers: dict[str, list[tuple[StepIndex, str]]] = {}
        for index, step in enumerate(self.steps):
            for output, tensor in step.output_map.items():
                self._writers.setdefault(tensor, []).append((index, output))
        self._routes: dict[frozenset[str], Route] = {}

    def writers_of(self, tensor: str) -> Sequence[tuple[StepIndex, str]]:
        """Return the steps that make an ensemble tensor and what their models call it; none of an input."""
        return self._writers.get(tensor, ())

    def route(self, requested: tuple[str, ...]) -> Route:
        """Return what runs for these outputs; no names mean all."""
        key = frozenset(requested)
        route = self._routes.get(key)
        if route is None:
            route = self._route(key or frozenset(self.outputs))
            if len(self._routes) < MAX_ROUTES:
                self._routes[key] = route
        return route

    def _route(self, wanted: frozenset[str]) -> Route:
        steps, tensors = self._needed(wanted)
        outputs = {
            index: tuple(
                output for output, tensor in self.steps[index].output_map.items() if tensor in tensors
            )
            for index in sorted(steps)
        }
        by_depth: dict[int, list[StepIndex]] = {0: []}
        for index, depth in self._depths(outputs).items():
            by_depth.setdefault(depth, []).append(index)
            if self.decoupled[index]:
                by_depth.setdefault(depth + 1, [])
        sections = tuple(self._section(by_depth[depth], outputs) for depth in sorted(by_depth))
        return Route(tuple(name for name in self.outputs if name in wanted), outputs, sections)

    def _needed(self, wanted: frozenset[str]) -> tuple[set[StepIndex], set[str]]:
        """Return the steps, and the ensemble tensors, that the wanted ones depend on."""
        tensors: set[str] = set()
        steps: set[StepIndex] = set()
        frontier = list(wanted)
        while frontier:
            tensor = frontier.pop()
            if tensor in tensors:
                continue
            tensors.add(tensor)
            for index, _ in self.writers_of(tensor):
                if index not in steps:
                    steps.add(index)
                    frontier.extend(self.steps[index].reads)
        return steps, tensors

    def _depths(self, steps: Mapping[StepIndex, object]) -> dict[StepIndex, int]:
        """Return for each step how many decoupled ones lie before it."""
        tensors = dict.fromkeys(self.inputs, 0)
        depths: dict[StepIndex, int] = {}
        while len(depths) < len(steps):
            for index in steps:
                step = self.steps[index]
                if index not in depths and tensors.keys() >= step.reads:
                    depths[index] = max(tensors[tensor] for tensor in step.reads)
                    behind = depths[index] + self.decoupled[index]
                    tensors.update(dict.fromkeys(step.output_map.values(), behind))
        return depths

    def _section(self, steps: Sequence[StepIndex], outputs: Mapping[StepIndex, tuple[str, ...]]) -> Section:
        missing: dict[StepIndex, int] = {}
        readers: dict[str, tuple[StepIndex, ...]] = {}
        guarded: dict[str, tuple[StepIndex, ...]] = {}
        writers: dict[str, int] = {}
        decoupled = None
        for index in sorted(steps):
            step = self.steps[index]
            missing[index] = len(step.reads)
            for tensor in step.reads:
                readers[tensor] = (*readers.get(tensor, ()), index)
            if step.when is not None:
                guarded[step.when.tensor] = (*guarded.get(step.when.tensor, ()), index)
            if self.decoupled[index]:
                decoupled = index
            else:
                for output in outputs[index]:
                    tensor = step.output_map[output]
                    writers[tensor] = writers.get(tensor, 0) + 1
        return Section(missing, readers, guarded, writers, decoupled)
