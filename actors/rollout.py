"""Rollouts: new versions that are tried on a part of the requests before they take the place of the old ones.

Here a trial (see `canary`) meets what it is about: it is shown how both versions answered (see `split`), its
story is written where the index finds it, and its verdict is carried out. A new version is promoted as any is
that was just loaded; one that is rolled back ends, the old one goes on as before, and the index keeps why.

The new version may have the number of the old one, or a higher one. Then requests for a number get that one,
and only those for no number in particular are split.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ..proto.config import ModelConfig
from ..proto.config.canary import CanaryPolicy
from ..proto.errors import invalid
from ..proto.model_id import ModelId
from ..proto.phases import VersionEvent, VersionPhase
from .canary import Trial, Verdict
from .clock import now
from .records import ROLLED_BACK, ModelRecord, VersionRecord
from .servable import Loaded, Servable
from .serving import Serving
from .split import Split

log: Final = structlog.get_logger("deuteron.repository")

LOOK_EVERY_S: Final = 0.5
"""Seconds from one look at the counters to the next."""


@dataclass(slots=True, eq=False)
class Rollout:
    """One new version that is tried."""

    model: ModelId
    record: ModelRecord
    split: Split
    old: Servable
    new: Loaded
    policy: CanaryPolicy
    trial: Trial
    undo: Callable[[], None]
    """What else is to be as it was when the new version is rolled back."""
    dropped: Sequence[int]
    """Versions that are to go when it is promoted."""

    @property
    def entry(self) -> VersionRecord:
        """Where the index finds the story of the trial."""
        return self.record.versions[self.new.version]

    @property
    def has_own_number(self) -> bool:
        """Whether the new version can be asked for by a number of its own."""
        return self.new.version != self.split.version


class Rollouts:
    """All trials that go on, and how those ended that are over."""

    __slots__ = ("_active", "_promoted", "_serving", "_tasks", "verdicts")

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._active: dict[ModelId, Rollout] = {}
        self._tasks: dict[Rollout, asyncio.Task[None]] = {}
        self._promoted: Callable[[ModelId], None] = _nobody
        self.verdicts: dict[tuple[ModelId, Verdict], int] = {}
        """How often a trial of a model ended in which way."""

    def __iter__(self) -> Iterator[Rollout]:
        """Every trial that goes on."""
        return iter(self._active.values())

    def __contains__(self, model: ModelId) -> bool:
        return model in self._active

    def tell_promotions(self, hear: Callable[[ModelId], None]) -> None:
        """Have somebody hear of each model whose new version took the place of the old one."""
        self._promoted = hear

    def begin(
        self,
        model: ModelId,
        record: ModelRecord,
        new: Loaded,
        policy: CanaryPolicy,
        dropped: Sequence[int],
    ) -> None:
        """Try a version, which was started, beside the latest one that serves."""
        old, before = record.latest, record.loaded
        assert old is not None, "there is nothing to try it against"

        def undo() -> None:
            record.loaded = before

        split, trial = Split(old, new, policy), Trial(policy, now())
        rollout = Rollout(model, record, split, old, new, policy, trial, undo, dropped)
        if rollout.has_own_number:
            self._serving.begin(record, new.version, new)
        record.split = split
        record.refresh()
        self._active[model] = rollout
        rollout.entry.reason = trial.story(now())
        self._tasks[rollout] = asyncio.create_task(self._watch(rollout))
        log.info("canary is on trial", model=str(model), version=new.version, share=policy.share)

    def end(self, model: ModelId, why: str) -> None:
        """Roll a new version back, if one is on trial."""
        rollout = self._active.get(model)
        if rollout is not None:
            self._tasks.pop(rollout).cancel()
            self._finish(rollout, Verdict.ROLL_BACK, why)

    async def close(self) -> None:
        """Look no more at any; all versions go on as they are."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _watch(self, rollout: Rollout) -> None:
        verdict = Verdict.WAIT
        while verdict is Verdict.WAIT:
            await asyncio.sleep(LOOK_EVERY_S)
            verdict, why = self._judge(rollout)
            if verdict is Verdict.WAIT:
                rollout.entry.reason = rollout.trial.story(now())
        del self._tasks[rollout]
        self._finish(rollout, verdict, why)

    def _judge(self, rollout: Rollout) -> tuple[Verdict, str]:
        old, new = rollout.split.old, rollout.split.new
        if not self._serving.is_alive(rollout.new):
            return Verdict.ROLL_BACK, "every instance of it broke for good"
        if not self._serving.is_alive(rollout.old):
            return Verdict.PROMOTE, "the old version has ended"
        return rollout.trial.judge(now(), new.sent, new.answers, old.answers)

    def _finish(self, rollout: Rollout, verdict: Verdict, why: str) -> None:
        model, record = rollout.model, rollout.record
        del self._active[model]
        self.verdicts[model, verdict] = self.verdicts.get((model, verdict), 0) + 1
        log.info("canary was %s", verdict.value, model=str(model), version=rollout.new.version, reason=why)
        record.split = None
        if verdict is Verdict.PROMOTE:
            self._promote(rollout)
            self._promoted(model)
        else:
            self._roll_back(rollout, ROLLED_BACK + why)
        record.refresh()

    def _promote(self, rollout: Rollout) -> None:
        record, version = rollout.record, rollout.new.version
        if not rollout.has_own_number:
            if rollout.entry.phase is VersionPhase.UNAVAILABLE:
                rollout.entry.step(VersionEvent.LOAD)
            self._serving.begin(record, version, rollout.new)
        rollout.entry.reason = ""
        for each in rollout.dropped:
            if record.versions[each].phase is VersionPhase.READY:
                self._serving.retire(record, each)

    def _roll_back(self, rollout: Rollout, reason: str) -> None:
        rollout.undo()
        if rollout.has_own_number and rollout.entry.phase is VersionPhase.READY:
            self._serving.retire(rollout.record, rollout.new.version, reason)
        elif not rollout.has_own_number:
            self._serving.discard(rollout.new)
        rollout.entry.reason = reason


def check_fits(old: ModelConfig, new: ModelConfig) -> None:
    """Raise InferError where two versions cannot be asked the same."""
    for what, theirs, ours in (
        ("inputs", old.inputs, new.inputs),
        ("outputs", old.outputs, new.outputs),
        ("max_batch_size", old.max_batch_size, new.max_batch_size),
        ("transaction policy", old.decoupled, new.decoupled),
        ("sequence_batching", old.sequence_batching, new.sequence_batching),
    ):
        if theirs != ours:
            raise invalid(
                f"a canary of model '{new.name}' must have the {what} of the version that serves; without "
                "the canary parameters it takes its place at once"
            )


def _nobody(model: ModelId) -> None:
    """Hear of a promotion that concerns nobody else."""
