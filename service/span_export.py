"""Traces as OpenTelemetry's spans, in Triton's form, handed to the standard SDK, which sends them on.

    InferRequest        what the front did: received, answered, sent
      <model>           the request to the model: its way through the queue
        compute         the execution, where there was one
        <model>         a step of an ensemble, or what the model's code asked of another model
          ...

A trace is turned into spans when it is complete. Only what the spans are called on the wire had to be known
before, since that is handed to model code (see `proto.trace.Spans`).

This module imports the SDK, and is itself imported where traces go to a collector, and nowhere else.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState

from ..actors.clock import Instant, now
from ..proto.trace import Trace
from ..proto.trace_context import TraceContext
from .settings import SpanSettings

SERVICE: Final = "triton-inference-server"
SCOPE: Final = InstrumentationScope("triton-server")
ROOT: Final = "InferRequest"
COMPUTE: Final = "compute"

MAX_EVENTS: Final = 128
"""Moments of one span that are told, as in the SDK: a stream may send any number of responses."""

_OF_FRONT: Final = ("HTTP_", "GRPC_", "INFER_")
"""How the names of moments begin that belong to the front; then, those of the execution."""
_OF_EXECUTION: Final = "COMPUTE_"

Moments = Sequence[tuple[str, Instant]]


class SpanExport:
    """The SDK's batches and its exporter: handed over on the loop, sent on a thread of the SDK's own."""

    def __init__(self, settings: SpanSettings) -> None:
        told = dict(each.split("=", 1) for each in settings.resource)
        self._resource = Resource.create({"service.name": SERVICE, **told})
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=_endpoint(settings.url)),
            max_queue_size=max(settings.bsp_max_queue_size, settings.bsp_max_export_batch_size),
            schedule_delay_millis=max(settings.bsp_schedule_delay, 1),
            max_export_batch_size=settings.bsp_max_export_batch_size,
        )

    def export(self, trace: Trace) -> None:
        """Hand over the spans of a trace that is complete, and of those below it."""
        spelling = _Spelling(self._resource, time.time_ns() - now())
        for span in spelling.spans(trace, None):
            self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left; blocks until it is sent, or cannot be."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _endpoint(url: str) -> str:
    """Return an address with its scheme, which operators of Triton leave out."""
    return url if "://" in url else f"http://{url}"


class _Spelling:
    """How one trace is spelt; all of its moments have the same distance to the clock on the wall."""

    __slots__ = ("_resource", "_since_epoch")

    def __init__(self, resource: Resource, since_epoch: int) -> None:
        self._resource = resource
        self._since_epoch = since_epoch

    def spans(self, trace: Trace, parent: TraceContext | None) -> Iterator[ReadableSpan]:
        """Yield the spans of a trace and of its children."""
        identity = trace.spans
        assert identity is not None, "what is exported was begun as spans"
        front = [each for each in trace.moments if each[0].startswith(_OF_FRONT)]
        execution = [each for each in trace.moments if each[0].startswith(_OF_EXECUTION)]
        request = [each for each in trace.moments if not each[0].startswith((*_OF_FRONT, _OF_EXECUTION))]
        if identity.root is not None:
            parent = identity.root
            yield self._span(ROOT, parent, identity.caller, front)
        yield self._span(trace.model_name, identity.request, parent, request, _attributes(trace))
        if execution:
            yield self._span(COMPUTE, identity.request.child(), identity.request, execution)
        for child in trace.children:
            yield from self.spans(child, identity.request)

    def _span(
        self,
        name: str,
        context: TraceContext,
        parent: TraceContext | None,
        moments: Moments,
        attributes: Mapping[str, str | int] | None = None,
    ) -> ReadableSpan:
        instants = [self._since_epoch + instant for _, instant in moments]
        return ReadableSpan(
            name,
            _identity(context),
            None if parent is None else _identity(parent),
            self._resource,
            attributes,
            [Event(each, timestamp=at) for (each, _), at in zip(moments, instants, strict=True)][:MAX_EVENTS],
            kind=SpanKind.SERVER,
            start_time=min(instants, default=self._since_epoch),
            end_time=max(instants, default=self._since_epoch),
            instrumentation_scope=SCOPE,
        )


def _attributes(trace: Trace) -> dict[str, str | int]:
    told: dict[str, str | int] = {
        "triton.model_name": trace.model_name,
        "triton.model_version": trace.model_version,
        "triton.trace_id": trace.id,
        "triton.trace_parent_id": trace.parent_id,
    }
    return told | ({"triton.request_id": trace.request_id} if trace.request_id else {})


def _identity(context: TraceContext) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else None
    return SpanContext(
        context.trace_id,
        context.span_id,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=state,
    )
