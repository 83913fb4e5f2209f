"""The door for those who collect metrics."""

from http import HTTPStatus

from aiohttp.web import BaseRequest, StreamResponse

from ..doorway import Doorway
from ..listening import ListenAt
from ..metrics import Metrics
from ..settings import MetricsSettings
from .front import HttpFront
from .responses import PLAIN_TEXT, error_of, head_of, with_body


def metrics_front(doorway: Doorway, settings: MetricsSettings) -> HttpFront:
    """Return the front that serves the metrics."""
    door = MetricsDoor(Metrics(doorway.repository, settings, doorway.cache))
    return HttpFront("Metrics Service", ListenAt(settings.address, settings.port), door.handle)


class MetricsDoor:
    """Answers with all metrics as they are now."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer `GET /metrics`; every other path is empty, as with Triton."""
        if request.method != "GET":
            return error_of(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        is_metrics = request.raw_path.partition("?")[0] == "/metrics"
        return with_body(head_of(HTTPStatus.OK, PLAIN_TEXT), self._metrics.text() if is_metrics else b"")
