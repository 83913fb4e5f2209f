"""A server on the event loop of the program that has it.

It lives in a task of its own, from `start` to `stop`, so that any task may start and stop it. Its doors are
those of the settings, or none; what clients may ask through them the program asks here, in arrays.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Self

import structlog

from ...actors.repository import Repository
from ...actors.servable import Servable
from ...backends.bindings import Binding, Bindings, Function
from ...backends.callables.specs import ModelConfig, Tensor
from ...proto.errors import Fault, InferError, internal
from ...proto.message import LATEST
from .. import information, logs, model_control
from ..interior import Interior, furnished
from ..lifecycle import Fronts, shut_down
from ..metrics import Metrics
from ..observer import Observer
from . import asking
from .asking import PLAIN, Answer, Inputs, RequestOptions
from .binding import binding_of, describe
from .config import ServerConfig

Members = dict[str, Any]

log: Final = structlog.stdlib.get_logger(__name__)


class AsyncServer:
    """A whole server; use it with `async with`, or `start` and `stop` it."""

    def __init__(self, config: ServerConfig | None = None, *, doors: bool = True) -> None:
        """Take the options of the server, and whether clients may come in by HTTP and gRPC."""
        self.settings = (config or ServerConfig()).settings
        self.addresses: Mapping[str, str] = {}
        """Where each open door listens, by the name of its service."""
        self.failure: BaseException | None = None
        """Why the server came to an end by itself, if it did."""
        self._doors = doors
        self.bindings = Bindings()
        """The functions that are models."""
        self._interior: Interior | None = None
        self._metrics: Metrics | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: asyncio.Task[None] | None = None
        self._told_to_stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    # --- its life ---

    async def start(self) -> None:
        """Load the models and open the doors; raises InferError, and then the server has ended."""
        if self._life is not None:
            raise internal("the server has been started already")
        logs.join_logging()
        for remark in self.settings.remarks:
            log.warning(remark)
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._life = asyncio.create_task(self._live(opened))
        await asyncio.wait({self._life, opened}, return_when=asyncio.FIRST_COMPLETED)
        if self._life.done():
            await self._life

    async def stop(self) -> None:
        """Serve what has come, and end; raises what the server came to an end by itself for."""
        self.tell_to_stop()
        if self._life is not None:
            await asyncio.shield(self._life)
        if self.failure is not None:
            raise self.failure

    def tell_to_stop(self) -> None:
        """Begin to stop; on the loop."""
        self._told_to_stop.set()

    async def ended(self) -> None:
        """Wait until the server has ended."""
        if self._life is not None:
            await asyncio.wait({self._life})

    async def _live(self, opened: "asyncio.Future[None]") -> None:
        log_of_clients = logs.ServerLog(self.settings.log)
        async with furnished(self.settings, log_of_clients, self.bindings) as interior:
            fronts = self._fronts(interior)
            try:
                fronts.prepare()
                await self._load(interior)
                await fronts.open()
            except BaseException:
                await fronts.abandon()
                raise
            self.addresses = {front.service: front.address for front in fronts.all}
            self._interior = interior
            opened.set_result(None)
            try:
                async with interior.polled():
                    await self._told_to_stop.wait()
                await shut_down(interior, fronts, self.settings.exit_timeout_s, _out_of_time)
            finally:
                self._interior = None

    async def _load(self, interior: Interior) -> None:
        failed = await interior.load()
        if failed and self.settings.exit_on_error:
            told = [entry for entry in interior.doorway.repository.index() if entry.reason]
            reasons = "; ".join(f"{entry.name}: {entry.reason}" for entry in told)
            raise internal(f"failed to load {', '.join(failed)}: {reasons}")

    def _fronts(self, interior: Interior) -> Fronts:
        if not self._doors:
            return Fronts()
        from ..doors import fronts_of  # noqa: PLC0415 - a server without doors needs no HTTP and no gRPC

        return fronts_of(interior.doorway, self.settings)

    # --- its models ---

    async def bind(  # noqa: PLR0913 - the names and places that PyTriton gives them
        self,
        model_name: str,
        infer_func: Function | Sequence[Function],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        model_version: int = 1,
        config: ModelConfig | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """Serve a function as a model; raises InferError or ValueError. See `binding_of`."""
        scheduled = config or ModelConfig()
        description = describe(model_name, infer_func, inputs, outputs, scheduled)
        await self.put(binding_of(description, infer_func, model_version, self.give_up, strict=strict))

    async def put(self, binding: Binding) -> None:
        """Serve a binding, at once if the server has started; raises InferError.

        A name that is bound already is bound anew: requests that came before are answered by what it was.
        """
        self.bindings.put(binding)
        if self._interior is not None:
            await self._interior.doorway.repository.load(binding.name)

    def model(self, name: str, version: int = LATEST) -> "AsyncModel":
        """Return a handle on a model, whether it is loaded or not; it is looked up for each request."""
        return AsyncModel(self, name, version)

    async def load(
        self, name: str, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model, with a configuration (JSON) and files (`file:1/model.onnx`) of its own if need be.

        In explicit control mode only, as for clients; raises InferError.
        """
        parameters: dict[str, str | bytes] = dict(files or {})
        if config is not None:
            parameters[model_control.CONFIG_PARAMETER] = config
        await model_control.load(self.interior.doorway, name, parameters)

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Begin to unload a model; in explicit control mode only. Raises InferError."""
        await model_control.unload(self.interior.doorway, name, dependents=dependents)

    # --- what it tells ---

    @property
    def ready(self) -> bool:
        """Whether requests are welcome."""
        return self._interior is not None and self._interior.doorway.repository.ready

    def metadata(self) -> Members:
        """Return name, version and extensions of the server."""
        return information.server_metadata(self.interior.doorway)

    def index(self, *, ready_only: bool = False) -> list[Members]:
        """Return which models there are, and what became of them; blocks while it looks at the disk."""
        return information.repository_index(self.interior.doorway.repository, ready_only=ready_only)

    def statistics(self, name: str = "", version: int = LATEST) -> list[Members]:
        """Return the counters of a model, or of all; raises InferError."""
        return information.statistics(self.interior.doorway.repository, name, version)

    def metrics(self) -> str:
        """Return all metrics in Prometheus' text form."""
        if self._metrics is None:
            doorway = self.interior.doorway
            self._metrics = Metrics(doorway.repository, self.settings.metrics, doorway.cache)
        return self._metrics.text().decode()

    @property
    def interior(self) -> Interior:
        """What serves; raises InferError where nothing does."""
        if self._interior is None:
            raise InferError(Fault.UNAVAILABLE, "the server does not serve")
        return self._interior

    def give_up(self, error: BaseException) -> None:
        """Come to an end because a function can serve no more; from any thread."""
        self.failure = error
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.tell_to_stop)


class AsyncModel:
    """One model, to be asked on the event loop of its server."""

    def __init__(self, server: AsyncServer, name: str, version: int) -> None:
        self._server = server
        self.name = name
        self.version = version

    async def infer(self, inputs: Inputs, options: RequestOptions = PLAIN) -> Answer:
        """Return the one answer; raises InferError. To stop waiting is to cancel the request."""
        return await asking.infer(self._observer, self._find(), inputs, options)

    def stream(self, inputs: Inputs, options: RequestOptions = PLAIN) -> AsyncGenerator[Answer, None]:
        """Yield answers as they come; raises InferError. To close the generator is to cancel the request."""
        return asking.stream(self._observer, self._find(), inputs, options)

    async def is_ready(self) -> bool:
        """Tell whether the model takes requests."""
        try:
            return await self._find().is_ready()
        except InferError:
            return False

    def metadata(self) -> Members:
        """Return what the model takes and gives; raises InferError."""
        return information.model_metadata(self._repository, self.name, self.version)

    def config(self) -> Members:
        """Return the whole configuration in its JSON form; raises InferError."""
        return information.model_config(self._repository, self.name, self.version)

    def statistics(self) -> list[Members]:
        """Return the counters of each version; raises InferError."""
        return information.statistics(self._repository, self.name, self.version)

    @property
    def _observer(self) -> Observer:
        return self._server.interior.doorway.observer

    @property
    def _repository(self) -> Repository:
        return self._server.interior.doorway.repository

    def _find(self) -> Servable:
        return self._repository.find(self.name, self.version)


def _out_of_time() -> None:
    log.error("Exit timeout expired; the server still waits for its models.")
