"""One request on its way through an ensemble: which steps can run, and which answers have come to their turn.

A `Trip` is pure data flow. It holds the ensemble tensors that exist so far, as *tokens*; `absorb` takes what
a step answered and tells which steps have just become ready, and `take` gives the answers of the ensemble.
The conductor round it sends steps as messages to the routers of their models.

Each answer of a decoupled step opens a *pass* through the section behind it: the same steps again, with
tokens of its own. So passes are a tree. The ensemble answers once for each leaf, in the order of the leaves:
an answer that is there too early waits for those before it. A pass is over when its answer, or those of all
passes below it, have been taken; then the answer of the decoupled step that opened it is used up, and its
producer may have that much credit back.

A tensor may never come. It is *absent* where nobody sent an optional input, or a step did not make an output:
its readers run without it. It is *skipped* where the steps that could make it were not taken, for their
conditions did not hold: readers that need it are not taken either, readers that do not run without it. Of the
steps that write one tensor at most one is taken, and the tensor is skipped when none is. A decoupled step
that is not taken answers nothing. Outputs that are absent or skipped are left out of the answer.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..proto.config.conditions import Condition
from ..proto.message import Correlation
from ..proto.tensor import Tensor
from .graph import Graph, Section, StepIndex


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """An ensemble tensor in one pass."""

    tensor: Tensor | None
    """None where it never comes."""
    correlation: Correlation | None = None
    """The place in a sequence that goes with it; None where that of the request does."""


ABSENT: Final = Token(None)
SKIPPED: Final = Token(None)


class Pass:
    """One way through one section."""

    __slots__ = ("below", "closed", "depth", "missing", "opened_by", "section", "tokens", "writers")

    def __init__(self, section: Section, depth: int, opened_by: "Step | None") -> None:
        self.section = section
        self.depth = depth
        self.opened_by = opened_by
        """The decoupled step whose answer this is; None for the first pass."""
        self.tokens: dict[str, Token] = {}
        self.missing = dict(section.missing)
        """Of the steps not decided on, the number of tensors that each waits for."""
        self.writers = dict(section.writers)
        """How many steps may still write a tensor."""
        self.below: deque[Pass] = deque()
        """The passes that the decoupled step of this one opened, without those that are over."""
        self.closed = False
        """Whether no more will be opened."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step that is ready to run, its inputs under the names its model gives them."""

    index: StepIndex
    within: Pass
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    """The outputs of its model that somebody needs."""
    correlation: Correlation | None
    """The place in a sequence that came with its inputs; None where none did."""


Answer = Mapping[str, Token]
"""One answer of the ensemble: a token for each output that the client wants."""


class Trip:
    """One request on its way through a graph."""

    __slots__ = ("_first", "_front", "_graph", "_route", "running")

    def __init__(self, graph: Graph, requested: tuple[str, ...]) -> None:
        self._graph = graph
        self._route = graph.route(requested)
        self._first = Pass(self._route.sections[0], 0, None)
        self._front: list[Pass] = [self._first]
        """From the first pass down to the one whose answer is the next; empty when all were taken."""
        self.running = 0
        """Steps that were told to be ready and have not ended."""

    def begin(self, inputs: Mapping[str, Tensor]) -> list[Step]:
        """Set out with the tensors of the request; raises InferError as `absorb` does."""
        tokens = {name: Token(inputs[name]) if name in inputs else ABSENT for name in self._graph.inputs}
        return self._put(self._first, tokens)

    def absorb(
        self, step: Step, outputs: Mapping[str, Tensor], correlation: Correlation | None = None
    ) -> list[Step]:
        """Take one answer of a step, and return the steps that can run now.

        Raises InferError when a condition cannot be decided.
        """
        names = self._graph.steps[step.index].output_map
        tokens = {
            names[output]: Token(outputs[output], correlation) if output in outputs else ABSENT
            for output in self._route.outputs[step.index]
        }
        target = step.within
        if step.index == target.section.decoupled:
            target = Pass(self._route.sections[target.depth + 1], target.depth + 1, step)
            step.within.below.append(target)
        return self._put(target, tokens)

    def end(self, step: Step) -> None:
        """Hear that a step has given its last answer."""
        self.running -= 1
        if step.index == step.within.section.decoupled:
            step.within.closed = True

    def take(self) -> tuple[list[Answer], list[Step]]:
        """Return the answers whose turn has come, and the step of each decoupled answer now used up."""
        answers: list[Answer] = []
        used_up: list[Step] = []
        front = self._front
        last = len(self._route.sections) - 1
        while front:
            at = front[-1]
            if at.below:
                front.append(at.below[0])
                continue
            if at.depth == last:
                if not all(name in at.tokens for name in self._route.wanted):
                    break
                answers.append({name: at.tokens[name] for name in self._route.wanted})
            elif not at.closed:
                break
            front.pop()
            if at.opened_by is not None:
                at.opened_by.within.below.popleft()
                used_up.append(at.opened_by)
        return answers, used_up

    def check(self) -> None:
        """Raise AssertionError when the trip contradicts itself; for tests, after each step."""
        assert self.running >= 0
        for above, below in zip(self._front, self._front[1:], strict=False):
            assert above.below[0] is below, "the next answer is not the first that is not taken"
        ahead = [self._first] if self._front else []
        while ahead:
            at = ahead.pop()
            ahead.extend(at.below)
            for index, count in at.missing.items():
                reads = self._graph.steps[index].reads
                assert count == sum(tensor not in at.tokens for tensor in reads) > 0
            assert all(at.depth + 1 == each.depth for each in at.below)

    def _put(self, at: Pass, tokens: Mapping[str, Token]) -> list[Step]:
        """Put tokens into a pass; return the steps that can run now."""
        ready: list[Step] = []
        section = at.section
        ahead = list(tokens.items())
        while ahead:
            name, token = ahead.pop()
            if name in at.tokens:
                continue
            at.tokens[name] = token
            for index in section.guarded.get(name, ()):
                if index in at.missing and not self._is_taken(index, token):
                    self._skip(at, index, ahead)
            for index in section.readers.get(name, ()):
                missing = at.missing.get(index)
                if missing is None:
                    continue
                at.missing[index] = missing - 1
                if missing == 1:
                    self._decide(at, index, ready, ahead)
        ready.sort(key=_index_of)
        return ready

    def _is_taken(self, index: StepIndex, token: Token) -> bool:
        condition: Condition | None = self._graph.steps[index].when
        return condition is None or (token.tensor is not None and condition.holds(token.tensor))

    def _decide(self, at: Pass, index: StepIndex, ready: list[Step], ahead: list[tuple[str, Token]]) -> None:
        """Run a step all of whose tensors are known, or skip it for one of them was."""
        found = {name: at.tokens[tensor] for name, tensor in self._graph.steps[index].input_map.items()}
        required = self._graph.required[index]
        if any(token is SKIPPED and name in required for name, token in found.items()):
            self._skip(at, index, ahead)
            return
        del at.missing[index]
        correlation = None
        inputs: dict[str, Tensor] = {}
        for name, token in found.items():
            if token.tensor is not None:
                inputs[name] = token.tensor
                correlation = correlation or token.correlation
        ready.append(Step(index, at, inputs, self._route.outputs[index], correlation))
        self.running += 1

    def _skip(self, at: Pass, index: StepIndex, ahead: list[tuple[str, Token]]) -> None:
        """Do not take a step, and let those know that wait for what it would have made."""
        del at.missing[index]
        if index == at.section.decoupled:
            at.closed = True
            return
        names = self._graph.steps[index].output_map
        for output in self._route.outputs[index]:
            tensor = names[output]
            at.writers[tensor] -= 1
            if not at.writers[tensor]:
                ahead.append((tensor, SKIPPED))


def _index_of(step: Step) -> StepIndex:
    return step.index
