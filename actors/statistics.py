"""What one model version has done so far: the counters of Triton's statistics extension.

Written on the loop only, read at any time; the member names of `as_dict` are those of the wire. Durations are
counts with their sums in nanoseconds.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Final

from .clock import MILLISECOND, Nanoseconds

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
    """Requests that were accepted and do not execute yet."""
    load_seconds: float = 0.0

    def succeeded(self, waited: Nanoseconds, took: Nanoseconds, rows: int, execution: Execution) -> None:
        """Count a request that an execution served: its time in the queue, its whole time, its rows."""
        self.success.add(took)
        self.queue.add(waited)
        self.compute_input.add(execution.compute_input)
        self.compute_infer.add(execution.compute_infer)
        self.compute_output.add(execution.compute_output)
        self.inference_count += rows

    def failed(self, took: Nanoseconds, reason: str) -> None:
        """Count a request that was accepted and could not be served."""
        self.fail.add(took)
        self.failures[reason] += 1

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
            "response_stats": {},
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
