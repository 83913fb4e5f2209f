"""The doors that the settings ask for."""

from .doorway import Doorway
from .grpc.front import grpc_front
from .http.door import http_front
from .http.metrics import metrics_front
from .lifecycle import Front, Fronts
from .settings import Settings


def fronts_of(doorway: Doorway, settings: Settings) -> Fronts:
    """Return the fronts, none of which listens yet."""
    doors: list[Front] = []
    if settings.grpc.enabled:
        doors.append(grpc_front(doorway, settings.grpc, settings.keepalive, settings.grpc_tls))
    if settings.http.enabled:
        doors.append(http_front(doorway, settings.http, settings.http_tls))
    metrics = [metrics_front(doorway, settings.metrics)] if settings.metrics.enabled else []
    return Fronts(tuple(doors), tuple(metrics))
