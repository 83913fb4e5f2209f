"""The HTTP door: takes each request to who can answer it, and turns whatever goes wrong into an answer."""

from collections.abc import Mapping
from http import HTTPStatus

from aiohttp.web import BaseRequest, StreamResponse

from ..doorway import Doorway
from ..forwarding import forwarding_of
from ..listening import ListenAt
from ..operations import Operation
from ..settings import HttpEngine, HttpSettings, TlsSettings
from .failures import response_to
from .front import HttpFront
from .generate import Generate
from .guard import Handler, guarded
from .heads import HeadReader
from .inference import Inference
from .information import Information
from .lane import Lane
from .log_settings import LogControl
from .model_control import ModelControl
from .openapi import Description
from .responses import error_of
from .routes import Match, MethodNotAllowedError, Switchboard
from .shared_memory import RegionControl
from .trace_settings import TraceControl


def http_front(doorway: Doorway, settings: HttpSettings, tls: TlsSettings | None = None) -> HttpFront:
    """Return the front that serves the inference protocol."""
    door = HttpDoor(doorway, settings)
    key = settings.policy.of_operation(Operation.INFER)
    return HttpFront(
        "HTTPService",
        ListenAt(settings.address, settings.port, settings.reuse_port),
        door.handle,
        tls,
        Lane(door.inference, HeadReader(key)) if settings.engine is HttpEngine.LANE else None,
    )


class HttpDoor:
    """Answers every request: with what its operation says, or with the error that ended it."""

    def __init__(self, doorway: Doorway, settings: HttpSettings) -> None:
        self._switchboard = Switchboard()
        self.inference = Inference(doorway, settings.max_input_size, forwarding_of(settings.forward_pattern))
        handlers = _handlers(doorway, settings, self.inference)
        keys = {operation: settings.policy.of_operation(operation) for operation in handlers}
        self._handlers = {name: guarded(handler, keys[name]) for name, handler in handlers.items()}
        self._refusals = {name: guarded(_refuse_method, keys[name]) for name in handlers}

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer a request; only a cancellation and a lost connection get through."""
        try:
            match = self._switchboard.find(request.method, request.raw_path)
            return await self._handlers[match.operation](request, match)
        except ConnectionError:
            raise
        except MethodNotAllowedError as error:
            return await self._refusals[error.match.operation](request, error.match)
        except Exception as error:  # noqa: BLE001 - an error ends its own request and nothing else
            return response_to(error, request.raw_path)


async def _refuse_method(_request: BaseRequest, _match: Match) -> StreamResponse:
    return error_of(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")


def _handlers(doorway: Doorway, settings: HttpSettings, inference: Inference) -> Mapping[Operation, Handler]:
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
        Operation.INFER: inference.infer,
        Operation.MODEL_LOAD: control.load,
        Operation.MODEL_UNLOAD: control.unload,
        Operation.GENERATE: generate.one,
        Operation.GENERATE_STREAM: generate.stream,
        Operation.TRACE: TraceControl(doorway, max_input_size).handle,
        Operation.LOGGING: LogControl(doorway.log, max_input_size).handle,
        Operation.SHARED_MEMORY_STATUS: regions.status,
        Operation.SHARED_MEMORY_CHANGE: regions.change,
    }
