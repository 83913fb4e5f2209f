"""The HTTP door: takes each request to who can answer it, and turns whatever goes wrong into an answer."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp.web import BaseRequest, StreamResponse
from aiohttp.web_protocol import RequestPayloadError

from ...proto.errors import InferError
from ..doorway import Doorway
from ..forwarding import forwarding_of
from ..listening import ListenAt
from ..operations import Operation
from ..settings import HttpSettings, TlsSettings
from .bodies import BodyRefusedError
from .compression import ENCODINGS, UnknownEncodingError
from .front import HttpFront
from .generate import Generate
from .guard import Handler, guarded
from .inference import Inference
from .information import Information
from .log_settings import LogControl
from .model_control import ModelControl
from .openapi import Description
from .responses import error_of, failure
from .routes import MethodNotAllowedError, NoRouteError, Switchboard
from .shared_memory import RegionControl
from .trace_settings import TraceControl

log: Final = structlog.stdlib.get_logger(__name__)

_KNOWN_ENCODINGS: Final = f"Accept-Encoding: {', '.join(ENCODINGS)}\r\n"


def http_front(doorway: Doorway, settings: HttpSettings, tls: TlsSettings | None = None) -> HttpFront:
    """Return the front that serves the inference protocol."""
    return HttpFront(
        "HTTPService",
        ListenAt(settings.address, settings.port, settings.reuse_port),
        HttpDoor(doorway, settings).handle,
        tls,
    )


class HttpDoor:
    """Answers every request: with what its operation says, or with the error that ended it."""

    def __init__(self, doorway: Doorway, settings: HttpSettings) -> None:
        self._switchboard = Switchboard()
        self._handlers = {
            operation: guarded(handler, settings.policy.of_operation(operation))
            for operation, handler in _handlers(doorway, settings).items()
        }

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer a request; only a cancellation and a lost connection get through."""
        try:
            match = self._switchboard.find(request.method, request.raw_path)
            return await self._handlers[match.operation](request, match)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - an error ends its own request and nothing else
            return _told(error, request)


def _told(error: Exception, request: BaseRequest) -> StreamResponse:
    """Return the response that tells of an error; one that is not made for clients goes to the log."""
    match error:
        case UnknownEncodingError():
            response = failure(error, headers=_KNOWN_ENCODINGS)
        case InferError():
            response = failure(error)
        case BodyRefusedError():
            response = failure(error.error, close=True)
        case RequestPayloadError():
            response = error_of(HTTPStatus.BAD_REQUEST, "the request body is malformed", close=True)
        case NoRouteError():
            response = error_of(HTTPStatus.NOT_FOUND, "Not Found")
        case MethodNotAllowedError():
            response = error_of(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        case _:
            log.error("request failed by an error of the server", path=request.raw_path, exc_info=error)
            told = f"unexpected error of the server: {type(error).__name__}"
            response = error_of(HTTPStatus.INTERNAL_SERVER_ERROR, told)
    return response


def _handlers(doorway: Doorway, settings: HttpSettings) -> Mapping[Operation, Handler]:
    max_input_size = settings.max_input_size
    information = Information(doorway, max_input_size)
    control = ModelControl(doorway, max_input_size)
    generate = Generate(doorway, max_input_size)
    regions = RegionControl(doorway.shared_memory, max_input_size)
    return {
        Operation.SERVER_LIVE: information.server_live,
        Operation.SERVER_READY: information.server_ready,
        Operation.SERVER_METADATA: information.server_metadata,
        Operation.DESCRIPTION: Description(doorway.version).tell,
        Operation.MODEL_READY: information.model_ready,
        Operation.MODEL_METADATA: information.model_metadata,
        Operation.MODEL_CONFIG: information.model_config,
        Operation.STATISTICS: information.statistics,
        Operation.REPOSITORY_INDEX: information.repository_index,
        Operation.INFER: Inference(doorway, max_input_size, forwarding_of(settings.forward_pattern)).infer,
        Operation.MODEL_LOAD: control.load,
        Operation.MODEL_UNLOAD: control.unload,
        Operation.GENERATE: generate.one,
        Operation.GENERATE_STREAM: generate.stream,
        Operation.TRACE: TraceControl(doorway, max_input_size).handle,
        Operation.LOGGING: LogControl(doorway.log, max_input_size).handle,
        Operation.SHARED_MEMORY_STATUS: regions.status,
        Operation.SHARED_MEMORY_CHANGE: regions.change,
    }
