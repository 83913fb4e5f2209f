"""The tracer: which requests are traced, by settings that clients may change, and where their traces go.

Each settings object samples for itself: every `rate`-th request that asks it, and no more than `count` of
them. A change makes a new object, whose counters begin at nothing; traces that were begun under the old one
are written as it says. What has been collected is written when there is enough of it: `log_frequency` traces,
or all that `count` allows, each time to a file with the next number; otherwise to the file itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Final

from ..proto.trace import Trace
from ..proto.trace_level import TraceLevel
from .settings import TraceSettings
from .trace_file import TraceFile
from .trace_settings import Changes, Specified

MOST_HELD: Final = 4 << 20
"""Bytes of traces that wait to be written."""
_SIZE: Final = 2048
"""About what a trace without tensors takes."""


class Sampler:
    """The settings of one scope as they are lived: what is left of the count, and what was collected."""

    __slots__ = (
        "_collected",
        "_created",
        "_file",
        "_held",
        "_held_size",
        "_ids",
        "_requests",
        "_retired",
        "settings",
    )

    def __init__(self, settings: TraceSettings, ids: Iterator[int], file: TraceFile | None) -> None:
        self.settings = settings
        self._ids = ids
        self._file = file
        self._requests = 0
        self._created = 0
        self._collected = 0
        self._held: list[Trace] = []
        self._held_size = 0
        self._retired = False

    def sample(self) -> Trace | None:
        """Return the trace of a request that is to be traced."""
        settings = self.settings
        if settings.level is TraceLevel.OFF or not settings.count or not settings.rate or self._file is None:
            return None
        self._requests += 1
        if self._requests % settings.rate:
            return None
        if settings.count > 0:
            self.settings = replace(settings, count=settings.count - 1)
        self._created += 1
        return Trace(self._ids, settings.level)

    def collect(self, trace: Trace) -> None:
        """Take a trace that is complete."""
        self._held.append(trace)
        self._held_size += _size(trace)
        self._collected += 1
        frequency = self.settings.log_frequency
        is_last = self.settings.count == 0 and self._collected == self._created
        if is_last or (frequency and len(self._held) >= frequency):
            self._write(numbered=True)
        elif self._retired:
            self._write(numbered=frequency != 0)
        elif self._held_size >= MOST_HELD:
            self._write(numbered=frequency != 0 or self.settings.count > 0)

    def retire(self) -> None:
        """Write what was collected; others sample from now on."""
        self._retired = True
        self._write(numbered=self.settings.log_frequency != 0)

    def _write(self, *, numbered: bool) -> None:
        if not self._held or self._file is None:
            return
        traces, self._held = self._held, []
        self._held_size = 0
        if numbered:
            self._file.save(traces)
        else:
            self._file.append(traces)


def _size(trace: Trace) -> int:
    """Return about how much memory a trace holds."""
    own = sum(shown.elements.byte_size for shown in trace.tensors if shown.elements is not None)
    return _SIZE + own + sum(map(_size, trace.children))


class Tracer:
    """All samplers of a server; used on the loop."""

    def __init__(self, settings: TraceSettings) -> None:
        self._defaults = settings
        self._file = None if settings.file is None else TraceFile(settings.file)
        self._ids = count(1)
        self._specified: dict[str, frozenset[str]] = {}
        """By the model's name, or the empty name for all models."""
        self._samplers = {"": self._sampler(settings)}

    @property
    def active(self) -> bool:
        """Whether any request could be traced at all."""
        levels = [sampler.settings.level for sampler in self._samplers.values()]
        return self._file is not None and any(level is not TraceLevel.OFF for level in levels)

    def settings(self, model: str = "") -> TraceSettings:
        """Return what holds for a model, or for all."""
        return (self._samplers.get(model) or self._samplers[""]).settings

    def sample(self, model: str) -> tuple[Trace, Sampler] | None:
        """Return the trace of a request to a model if it is to be traced, and who will collect it."""
        sampler = self._samplers.get(model) or self._samplers[""]
        trace = sampler.sample()
        return None if trace is None else (trace, sampler)

    def change(self, model: str, changes: Changes) -> None:
        """Change what holds for a model, or for all; raises InferError and then has changed nothing."""
        fallback = self._samplers[""].settings if model else self._defaults
        changed = {model: self._changed(model, changes, fallback)}
        if not model:
            new = changed[""].settings
            changed |= {name: self._changed(name, {}, new) for name in self._samplers if name}
        for name, specified in changed.items():
            self._replace(name, specified)

    def close(self) -> None:
        """Write what is left; blocks until it is written."""
        for sampler in self._samplers.values():
            sampler.retire()
        if self._file is not None:
            self._file.close()

    def _changed(self, model: str, changes: Changes, fallback: TraceSettings) -> Specified:
        current = Specified(self.settings(model), self._specified.get(model, frozenset()))
        return current.changed(changes, fallback)

    def _replace(self, model: str, specified: Specified) -> None:
        old = self._samplers.pop(model, None)
        if old is not None:
            old.retire()
        if model and not specified.fields:
            self._specified.pop(model, None)
            return
        self._specified[model] = specified.fields
        self._samplers[model] = self._sampler(specified.settings)

    def _sampler(self, settings: TraceSettings) -> Sampler:
        return Sampler(settings, self._ids, self._file)
