"""What one model version has done so far: the counters of Triton's statistics extension, and its latencies.

Written on the loop only, read at any time; the member names of `as_dict` are those of the wire. Durations are
counts with their sums in nanoseconds.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from .clock import MILLISECOND, Instant, Nanoseconds
from .latencies import Latencies
from .sequence_statistics import SequenceStatistics

REASONS: Final = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
"""Why requests fail, as the metrics tell them apart."""


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took altogether."""

    count: int = 0
    ns: Nanoseconds = 0

    def add(self, elapsed: Nanoseconds) -> None:
        """Count one more."""
        self.count += 1
        self.ns += elapsed

    def as_dict(self) -> dict[str, int]:
        """Return the members of the wire."""
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class BatchStatistics:
    """Executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)

    def add(self, execution: "Execution") -> None:
        """Count one more execution."""
        self.compute_input.add(execution.compute_input)
        self.compute_infer.add(execution.compute_infer)
        self.compute_output.add(execution.compute_output)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the members of the wire."""
        return {
            name: getattr(self, name).as_dict()
            for name in ("compute_input", "compute_infer", "compute_output")
        }


MOST_RESPONSES: Final = 1024
"""Responses of one request that are counted by their index; a model may send any number."""


@dataclass(slots=True)
class ResponseStatistics:
    """Responses that had one index among those of their request, counted by what became of them."""

    compute_infer: Duration = field(default_factory=Duration)
    """From the response before, or the start, until the model had computed this one."""
    compute_output: Duration = field(default_factory=Duration)
    """From there until it was handed to its caller."""
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty_response: Duration = field(default_factory=Duration)
    """Of those that carry nothing but the word that they are final."""
    cancel: Duration = field(default_factory=Duration)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the members of the wire."""
        return {name: getattr(self, name).as_dict() for name in _RESPONSE_DURATIONS}


@dataclass(slots=True)
class Execution:
    """How long the phases of one execution took."""

    started: int
    compute_input: Nanoseconds
    compute_infer: Nanoseconds
    compute_output: Nanoseconds


@dataclass(slots=True)
class Statistics:
    """All counters of one model version."""

    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    pending: int = 0
    """Requests that were accepted and are not on their way to an instance yet."""
    load_seconds: float = 0.0
    responses: dict[int, ResponseStatistics] = field(default_factory=dict)
    """Of a model that streams, by the index of the response in its request."""
    streaming: bool = False
    """Whether responses come one by one, so that a request is answered before it has ended."""
    latencies: Latencies = field(default_factory=lambda: Latencies(None, {}))
    sequences: SequenceStatistics | None = None
    """Of a model that serves sequences."""

    def succeeded(self, waited: Nanoseconds, took: Nanoseconds, rows: int, execution: Execution) -> None:
        """Count a request that an execution served: its time in the queue, its whole time, its rows."""
        self.success.add(took)
        self.queue.add(waited)
        self.compute_input.add(execution.compute_input)
        self.compute_infer.add(execution.compute_infer)
        self.compute_output.add(execution.compute_output)
        self.inference_count += rows
        latencies = self.latencies
        if latencies.first_response is not None and not self.streaming:
            latencies.first_response.observe(took)
        if latencies.summaries:
            latencies.observe(
                {
                    "request": took,
                    "queue": waited,
                    "compute_input": execution.compute_input,
                    "compute_infer": execution.compute_infer,
                    "compute_output": execution.compute_output,
                }
            )

    def served_from_cache(self, waited: Nanoseconds, took: Nanoseconds, lookup: Nanoseconds) -> None:
        """Count a request that nothing was executed for: its wait, its whole time, its look at the cache."""
        self.success.add(took)
        self.queue.add(waited)
        self.cache_hit.add(lookup)
        latencies = self.latencies
        if latencies.first_response is not None:
            latencies.first_response.observe(took)
        if latencies.summaries:
            latencies.observe({"request": took, "queue": waited, "cache_hit": lookup})

    def missed_cache(self, took: Nanoseconds) -> None:
        """Count what a request that was executed cost besides: to look at the cache and to fill it."""
        self.cache_miss.add(took)
        self.success.ns += took
        if self.latencies.summaries:
            self.latencies.observe({"cache_miss": took})

    def failed(self, took: Nanoseconds, reason: str) -> None:
        """Count a request that was accepted and could not be served."""
        self.fail.add(took)
        self.failures[reason] += 1
        if self.latencies.first_response is not None and not self.streaming:
            self.latencies.first_response.observe(took)

    def first_responded(self, took: Nanoseconds) -> None:
        """Hear how long a caller of a model that streams waited for the first response."""
        if self.latencies.first_response is not None:
            self.latencies.first_response.observe(took)

    def responded(self, index: int, kind: str, began: Instant, computed: Instant, sent: Instant) -> None:
        """Count a response of a model that streams.

        `kind` is the field of `ResponseStatistics` that says what became of it. The moments are those when
        the model could begin with it, had computed it, and when it was handed on.
        """
        if index >= MOST_RESPONSES:
            return
        response = self.responses.get(index)
        if response is None:
            response = self.responses[index] = ResponseStatistics()
        getattr(response, kind).add(sent - began)
        if kind != "cancel":
            response.compute_infer.add(computed - began)
        if kind in ("success", "fail"):
            response.compute_output.add(sent - computed)

    def executed(self, rows: int, execution: Execution) -> None:
        """Count an execution of a batch of this many rows."""
        self.execution_count += 1
        self.last_inference_ms = time.time_ns() // MILLISECOND
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchStatistics()
        batch.add(execution)

    def as_dict(self) -> dict[str, Any]:
        """Return the members of the wire, without the model's name and version."""
        return {
            "last_inference": self.last_inference_ms,
            "inference_count": self.inference_count,
            "execution_count": self.execution_count,
            "inference_stats": {name: getattr(self, name).as_dict() for name in _REQUEST_DURATIONS},
            "response_stats": {
                str(index): self.responses[index].as_dict() for index in sorted(self.responses)
            },
            "batch_stats": [
                {"batch_size": size, **self.batches[size].as_dict()} for size in sorted(self.batches)
            ],
            "memory_usage": [],
        }


_REQUEST_DURATIONS: Final = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)

_RESPONSE_DURATIONS: Final = (
    "compute_infer",
    "compute_output",
    "success",
    "fail",
    "empty_response",
    "cancel",
)
