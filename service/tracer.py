"""The tracer: which requests are traced, by settings that clients may change, and where their traces go.

Each settings object samples for itself: every `rate`-th request that asks it, and no more than `count` of
them. A change makes a new object, whose counters begin at nothing; traces that were begun under the old one
are written as it says. What has been collected is written when there is enough of it: `log_frequency` traces,
or all that `count` allows, each time to a file with the next number; otherwise to the file itself. What
goes to a collector goes there trace by trace, as spans.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from typing import Final, Protocol, cast

from ..proto.errors import Fault, InferError
from ..proto.trace import Spans, Trace
from ..proto.trace_context import TraceContext
from ..proto.trace_level import TraceLevel
from .settings import TraceMode, TraceSettings
from .trace_file import TraceFile
from .trace_settings import Changes, Specified

MOST_HELD: Final = 4 << 20
"""Bytes of traces that wait to be written."""
_SIZE: Final = 2048
"""About what a trace without tensors takes."""


class Export(Protocol):
    """Whoever takes traces as spans; see `span_export`."""

    def export(self, trace: Trace) -> None:
        """Take a trace that is complete."""

    def close(self) -> None:
        """Send what is left; blocks."""


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the traces of a server go: to a file, to a collector, or nowhere."""

    file: TraceFile | None = None
    spans: Export | None = None

    @property
    def is_there(self) -> bool:
        """Whether traces go anywhere."""
        return self.file is not None or self.spans is not None

    def close(self) -> None:
        """Write and send what is left; blocks."""
        for each in (self.file, self.spans):
            if each is not None:
                each.close()


class Sampler:
    """The settings of one scope as they are lived: what is left of the count, and what was collected."""

    __slots__ = (
        "_collected",
        "_created",
        "_held",
        "_held_size",
        "_ids",
        "_requests",
        "_retired",
        "_sink",
        "settings",
    )

    def __init__(self, settings: TraceSettings, ids: Iterator[int], sink: Sink) -> None:
        self.settings = settings
        self._ids = ids
        self._sink = sink
        self._requests = 0
        self._created = 0
        self._collected = 0
        self._held: list[Trace] = []
        self._held_size = 0
        self._retired = False

    def sample(self, caller: TraceContext | None = None) -> Trace | None:
        """Return the trace of a request that is to be traced.

        A caller that hands over its own trace, where traces are spans, is always traced, and with a rate of 0
        nobody else is.
        """
        settings = self.settings
        level = settings.level if self._sink.spans is None else settings.level & TraceLevel.TIMESTAMPS
        if level is TraceLevel.OFF or not self._sink.is_there:
            return None
        if not self._is_next() and caller is None:
            return None
        return Trace(self._ids, level, spans=None if self._sink.spans is None else Spans.below(caller))

    def _is_next(self) -> bool:
        """Count a request; return whether it is the next of those to be traced."""
        settings = self.settings
        if not settings.count or not settings.rate:
            return False
        self._requests += 1
        if self._requests % settings.rate:
            return False
        if settings.count > 0:
            self.settings = replace(settings, count=settings.count - 1)
        self._created += 1
        return True

    def collect(self, trace: Trace) -> None:
        """Take a trace that is complete."""
        if self._sink.spans is not None:
            self._sink.spans.export(trace)
            return
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
        file = self._sink.file
        if not self._held or file is None:
            return
        traces, self._held = self._held, []
        self._held_size = 0
        if numbered:
            file.save(traces)
        else:
            file.append(traces)


def _size(trace: Trace) -> int:
    """Return about how much memory a trace holds."""
    own = sum(shown.elements.byte_size for shown in trace.tensors if shown.elements is not None)
    return _SIZE + own + sum(map(_size, trace.children))


class Tracer:
    """All samplers of a server; used on the loop."""

    def __init__(self, settings: TraceSettings) -> None:
        self._defaults = settings
        self._sink = _sink_of(settings)
        self._ids = count(1)
        self._specified: dict[str, frozenset[str]] = {}
        """By the model's name, or the empty name for all models."""
        self._samplers = {"": self._sampler(settings)}

    @property
    def active(self) -> bool:
        """Whether any request could be traced at all."""
        levels = [sampler.settings.level for sampler in self._samplers.values()]
        return self._sink.is_there and any(level is not TraceLevel.OFF for level in levels)

    @property
    def takes_contexts(self) -> bool:
        """Whether it matters which trace a caller is part of."""
        return self._sink.spans is not None

    def settings(self, model: str = "") -> TraceSettings:
        """Return what holds for a model, or for all."""
        return (self._samplers.get(model) or self._samplers[""]).settings

    def sample(self, model: str, caller: TraceContext | None = None) -> tuple[Trace, Sampler] | None:
        """Return the trace of a request to a model if it is to be traced, and who will collect it."""
        sampler = self._samplers.get(model) or self._samplers[""]
        trace = sampler.sample(caller)
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
        self._sink.close()

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
        return Sampler(settings, self._ids, self._sink)


def _sink_of(settings: TraceSettings) -> Sink:
    """Return where traces go; raises InferError where the SDK is needed and not installed."""
    if settings.mode is TraceMode.TRITON:
        return Sink(file=None if settings.file is None else TraceFile(settings.file))
    try:
        span_export = import_module(".span_export", __package__)
    except ImportError as error:
        raise InferError(
            Fault.UNAVAILABLE,
            f"--trace-config mode=opentelemetry needs a package that cannot be imported ({error}): "
            "pip install 'deuteron[otel]'",
        ) from error
    return Sink(spans=cast("Export", span_export.SpanExport(settings.spans)))
