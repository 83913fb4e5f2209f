"""A collector of OpenTelemetry's spans: what OTLP sends over HTTP, read as the protocol's own messages."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from .house import ADDRESS, poll

PATH = "/v1/traces"


class Collector:
    """What came in so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.exports: list[ExportTraceServiceRequest] = []

    def spans(self) -> list[Span]:
        """Return all spans."""
        return [
            span
            for export in self.exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, number: int) -> list[Span]:
        """Wait until so many spans have come; return them."""
        # They leave in batches, some seconds after the first of each: two batches may be needed.
        poll(lambda: len(self.spans()) >= number, f"{number} spans have come", within=60)
        return self.spans()

    def resource(self) -> dict[str, str]:
        """Return what the first export tells of the server."""
        attributes = self.exports[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}


def tree(spans: list[Span]) -> dict[str, list[str]]:
    """Return the names of spans, each with those of its children in order."""
    names = {span.span_id: span.name for span in spans}
    found: dict[str, list[str]] = {}
    for span in spans:
        if span.parent_span_id in names:
            found.setdefault(names[span.parent_span_id], []).append(span.name)
    return {name: sorted(children) for name, children in found.items()}


def events(span: Span) -> list[str]:
    """Return the names of a span's events, in order of time."""
    return [event.name for event in sorted(span.events, key=lambda event: event.time_unix_nano)]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collect for the length of the block."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == PATH:
                collector.exports.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path == PATH else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((ADDRESS, 0), Receiver) as server:
        collector = Collector(f"http://{ADDRESS}:{server.server_port}{PATH}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()
