"""Random ensembles in virtual time: whatever the order of events, the answers are those of a plain reading.

The reading is a recursive one: it runs every step at its turn, and knows neither of events nor of waiting.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from deuteron.actors.ensemble import Pass, Step, Trip
from deuteron.actors.graph import Graph

from .graphs import graph_of, number_of, tensor

GRAPHS = 500
HISTORIES = 20
ABSENT, SKIPPED = "absent", "skipped"
Value = int | str


@dataclass
class Drawn:
    """One step of a random ensemble."""

    reads: dict[str, bool]
    """Tensor → whether the model can do without."""
    writes: list[str]
    condition: tuple[str, bool, int] | None = None
    """The tensor, whether it must be equal, and to what."""
    decoupled: bool = False


@dataclass
class Draw:
    """A random ensemble, its steps in an order in which they can run, and what its models do."""

    seed: int
    inputs: list[str] = field(default_factory=list)
    sections: list[list[Drawn]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, seed: int) -> "Draw":
        """Draw an ensemble of up to three sections."""
        dice = random.Random(seed)
        draw = cls(seed, [f"i{n}" for n in range(dice.randint(1, 3))])
        known, names = list(draw.inputs), iter(range(1000))
        depth = dice.choice([0, 0, 1, 1, 2])
        for level in range(depth + 1):
            steps: list[Drawn] = []
            unread = set(known)
            for _ in range(dice.randint(1, 4)):
                written = [f"t{next(names)}" for _ in range(dice.randint(1, 2))]
                pair = [_condition(dice, known)]
                if pair[0] is not None and dice.random() < 0.5:
                    tensor_name, is_equal, number = pair[0]
                    pair.append((tensor_name, not is_equal, number))
                for condition in pair:
                    reads = dice.sample(known, dice.randint(1, min(3, len(known))))
                    unread -= {*reads, *([condition[0]] if condition else [])}
                    steps.append(Drawn(_optional(dice, reads), written, condition))
                known += written
                unread |= set(written)
            is_last = level == depth
            if not is_last or unread <= set(known[: len(draw.inputs)]) or unread & set(draw.inputs):
                written = [f"t{next(names)}" for _ in range(dice.randint(1, 3))]
                condition = _condition(dice, known) if dice.random() < 0.3 else None
                steps.append(Drawn(_optional(dice, sorted(unread)), written, condition, not is_last))
                known, unread = list(written), set(written)
            draw.sections.append(steps)
        draw.outputs = sorted(unread)
        return draw

    def graph(self) -> Graph:
        """Return the graph of it."""
        lines: list[str] = []
        for step in (step for section in self.sections for step in section):
            reads = " ".join(f"{name}?" if optional else name for name, optional in step.reads.items())
            line = f"{'many' if step.decoupled else 'one'}{len(lines)}: {reads} -> {' '.join(step.writes)}"
            if step.condition is not None:
                name, is_equal, number = step.condition
                line += f" when {name} {'==' if is_equal else '!='} {number}"
            lines.append(line)
        return graph_of(
            "\n".join(lines), " ".join(f"{name}?" for name in self.inputs), " ".join(self.outputs)
        )

    def given(self) -> dict[str, int]:
        """Return the inputs of the request, some of which are not sent."""
        dice = random.Random(f"{self.seed} inputs")
        return {name: dice.randint(0, 2) for name in self.inputs if dice.random() < 0.8}

    def answers(self, index: int, path: tuple[int, ...]) -> list[dict[str, int]]:
        """Return what a step answers in one pass: outputs that may be missing, once or several times."""
        dice = random.Random(f"{self.seed} {index} {path}")
        step = [step for section in self.sections for step in section][index]
        times = dice.randint(0, 3) if step.decoupled else 1
        return [
            {name: dice.randint(0, 2) for name in step.writes if dice.random() < 0.9} for _ in range(times)
        ]

    def read(self) -> list[dict[str, int | None]]:
        """Return the answers of the ensemble, in order."""
        tokens: dict[str, Value] = {name: self.given().get(name, ABSENT) for name in self.inputs}
        return list(self._walk(0, (), tokens))

    def _walk(
        self, level: int, path: tuple[int, ...], tokens: dict[str, Value]
    ) -> Iterator[dict[str, int | None]]:
        first = sum(len(section) for section in self.sections[:level])
        for index, step in enumerate(self.sections[level], start=first):
            taken = _taken(step, tokens)
            if step.decoupled:
                for number, outputs in enumerate(self.answers(index, path) if taken else ()):
                    below: dict[str, Value] = {name: outputs.get(name, ABSENT) for name in step.writes}
                    yield from self._walk(level + 1, (*path, number), below)
                return
            outputs = self.answers(index, path)[0]
            for name in step.writes:
                if taken:
                    tokens[name] = outputs.get(name, ABSENT)
                else:
                    tokens.setdefault(name, SKIPPED)
        found = {name: tokens[name] for name in self.outputs}
        yield {name: value if isinstance(value, int) else None for name, value in found.items()}


def _condition(dice: random.Random, known: list[str]) -> tuple[str, bool, int] | None:
    return None if dice.random() < 0.6 else (dice.choice(known), dice.random() < 0.5, dice.randint(0, 2))


def _optional(dice: random.Random, names: list[str]) -> dict[str, bool]:
    return {name: dice.random() < 0.5 for name in names}


def _taken(step: Drawn, tokens: dict[str, Value]) -> bool:
    if step.condition is not None:
        name, is_equal, number = step.condition
        if isinstance(tokens[name], str) or (tokens[name] == number) is not is_equal:
            return False
    return not any(tokens[name] == SKIPPED and not optional for name, optional in step.reads.items())


class History:
    """One request on its way through a random ensemble, its events in a random order."""

    def __init__(self, draw: Draw, graph: Graph, dice: random.Random) -> None:
        self.draw = draw
        self.graph = graph
        self.dice = dice
        self.wanted = dice.sample(draw.outputs, dice.randint(1, len(draw.outputs)))
        self.trip = Trip(graph, tuple(self.wanted))
        self.expected = [{name: each[name] for name in self.wanted} for each in draw.read()]
        self.told = 0
        self.paths: dict[Pass, tuple[int, ...]] = {}
        self.left: dict[Step, list[dict[str, int]]] = {}
        """What each step on its way has still to answer."""
        self.ran: set[tuple[int, tuple[int, ...]]] = set()
        self.opened = 0
        self.used_up = 0

    def live(self) -> None:
        """Live through it, with all invariants checked after every event."""
        inputs = {name: tensor(number) for name, number in self.draw.given().items()}
        self.started(self.trip.begin(inputs))
        self.settle()
        while self.left:
            self.happen(self.dice.choice(list(self.left)))
            self.settle()
        assert self.told == len(self.expected)
        assert self.used_up == self.opened
        assert self.trip.running == 0

    def happen(self, step: Step) -> None:
        """Let a step give its next answer, or end, or both at once."""
        answers = self.left[step]
        is_decoupled = self.graph.decoupled[step.index]
        if answers:
            outputs = {name: tensor(number) for name, number in answers.pop(0).items()}
            number = len(self.draw.answers(step.index, self.path_of(step.within))) - len(answers) - 1
            ready = self.trip.absorb(step, {name: outputs[name] for name in step.outputs if name in outputs})
            if is_decoupled:
                self.opened += 1
                self.paths[step.within.below[-1]] = (*self.path_of(step.within), number)
            self.started(ready)
        if not answers and not (is_decoupled and self.dice.random() < 0.5):
            self.trip.end(step)
            del self.left[step]

    def started(self, steps: list[Step]) -> None:
        """Begin what has become ready: each step once in each pass."""
        for step in steps:
            path = self.path_of(step.within)
            assert (step.index, path) not in self.ran
            self.ran.add((step.index, path))
            self.left[step] = self.draw.answers(step.index, path)

    def path_of(self, at: Pass) -> tuple[int, ...]:
        """Return which answer of each decoupled step led to a pass."""
        return self.paths.get(at, ())

    def settle(self) -> None:
        """Compare what was told so far with what is to be told."""
        answers, used_up = self.trip.take()
        for answer in answers:
            assert number_of(answer) == self.expected[self.told]
            self.told += 1
        self.used_up += len(used_up)
        self.trip.check()
        assert self.trip.running == len(self.left)


@pytest.mark.parametrize("part", range(5))
def test_the_answers_of_random_ensembles_are_those_of_a_plain_reading(part: int) -> None:
    """10,000 histories in all; every answer comes once, in order, and uses up what it was made of."""
    decoupled = skipped = told = 0
    for seed in range(part, GRAPHS, 5):
        draw = Draw.of(seed)
        graph = draw.graph()
        for number in range(HISTORIES):
            history = History(draw, graph, random.Random(f"{seed} {number}"))
            history.live()
            decoupled += history.opened
            told += history.told
            skipped += sum(value is None for answer in history.expected for value in answer.values())
    assert min(decoupled, skipped, told) > 100, "the histories are not worth their time"
