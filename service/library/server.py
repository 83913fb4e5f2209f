"""A server beside the program that has it: on a thread of its own, used from any other.

`serve` blocks until the process is told to stop, as the command does; `run`, or a `with` block, has the
program go on beside its server. All that clients may ask, the program may ask here.
"""

import atexit
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, ParamSpec, Self, TypeVar

import structlog

from ...backends.bindings import Function
from ...backends.callables.specs import ModelConfig, Tensor
from ...proto.errors import Fault, InferError
from ...proto.message import LATEST
from ..lifecycle import exit_at_once
from ..loop_thread import LoopThread
from .asking import PLAIN, Answer, Inputs, RequestOptions
from .async_server import AsyncModel, AsyncServer, Members
from .binding import binding_of, describe
from .config import ServerConfig

P = ParamSpec("P")
T = TypeVar("T")

log: Final = structlog.stdlib.get_logger(__name__)

SIGNALS_HEARD_WITHIN_S: Final = 1.0


class Server:
    """A whole server; bind functions to it, and `serve` them."""

    def __init__(self, config: ServerConfig | None = None, *, doors: bool = True) -> None:
        """Take the options of the server, and whether clients may come in by HTTP and gRPC."""
        self._server = AsyncServer(config, doors=doors)
        self._thread: LoopThread | None = None
        self._told_to_stop = threading.Event()

    def __enter__(self) -> Self:
        self.run()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- its life ---

    def run(self) -> None:
        """Load the models and open the doors; raises InferError. A server that runs already goes on."""
        if self._thread is not None:
            return
        self._thread = LoopThread("deuteron")
        try:
            self._thread.call(self._server.start())
        except BaseException:
            self._end()
            raise
        self._thread.begin(self._await_the_end())
        atexit.register(self.stop)

    def serve(self) -> None:
        """Run until the process is told to stop, by SIGINT or SIGTERM, or `stop` is called; then end.

        Raises what a function ended the server for.
        """
        self.run()
        with _signals(self._told_to_stop):
            # A wait without end is not interrupted by a signal that another thread of the process received.
            while not self._told_to_stop.wait(SIGNALS_HEARD_WITHIN_S):
                pass
            self.stop()

    def stop(self) -> None:
        """Serve what has come, and end; does nothing where nothing runs."""
        self._told_to_stop.set()
        if self._thread is None:
            return
        try:
            self._thread.call(self._server.stop())
        finally:
            self._end()

    def is_alive(self) -> bool:
        """Whether the server serves."""
        return self._thread is not None and self._server.ready

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where each open door listens, by the name of its service."""
        return self._server.addresses

    # --- its models ---

    def bind(  # noqa: PLR0913 - the names and places that PyTriton gives them
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
        """Serve a function as a model, at once if the server runs; raises InferError or ValueError.

        The function takes a list of requests and returns a list with an answer for each; decorators make it
        take arrays. Of several functions each is an instance. `strict` holds every answer against `outputs`.
        """
        scheduled = config or ModelConfig()
        description = describe(model_name, infer_func, inputs, outputs, scheduled)
        binding = binding_of(description, infer_func, model_version, self._server.give_up, strict=strict)
        if self._thread is None:
            self._server.bindings.put(binding)
        else:
            self._thread.call(self._server.put(binding))

    def model(self, name: str, version: int = LATEST) -> "Model":
        """Return a handle on a model, whether it is loaded or not; it is looked up for each request."""
        return Model(self, self._server.model(name, version))

    def load(self, name: str, config: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Load a model; in explicit control mode only. See `AsyncServer.load`."""
        self.call(self._server.load(name, config, files))

    def unload(self, name: str, *, dependents: bool = False) -> None:
        """Begin to unload a model; in explicit control mode only. Raises InferError."""
        self.call(self._server.unload(name, dependents=dependents))

    # --- what it tells ---

    def metadata(self) -> Members:
        """Return name, version and extensions of the server."""
        return self.call(_told(self._server.metadata))

    def index(self, *, ready_only: bool = False) -> list[Members]:
        """Return which models there are, and what became of them."""
        return self.call(_told(self._server.index, ready_only=ready_only))

    def statistics(self, name: str = "", version: int = LATEST) -> list[Members]:
        """Return the counters of a model, or of all; raises InferError."""
        return self.call(_told(self._server.statistics, name, version))

    def metrics(self) -> str:
        """Return all metrics in Prometheus' text form."""
        return self.call(_told(self._server.metrics))

    # --- how ---

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine where the server runs; raises InferError where it does not."""
        if self._thread is None:
            coroutine.close()
            raise _not_running()
        return self._thread.call(coroutine, timeout_s)

    def each(
        self, answers: AsyncGenerator[Answer, None], timeout_s: float | None
    ) -> Generator[Answer, None, None]:
        """Yield what a generator yields where the server runs; raises InferError where it does not."""
        if self._thread is None:
            raise _not_running()
        return self._thread.each(answers, timeout_s)

    async def _await_the_end(self) -> None:
        await self._server.ended()
        self._told_to_stop.set()

    def _end(self) -> None:
        atexit.unregister(self.stop)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()


class Model:
    """One model, to be asked from any thread."""

    def __init__(self, server: Server, model: AsyncModel) -> None:
        self._server = server
        self._model = model

    def infer(
        self, inputs: Inputs, options: RequestOptions = PLAIN, timeout_s: float | None = None
    ) -> Answer:
        """Return the one answer; raises InferError, or TimeoutError, which cancels the request."""
        return self._server.call(self._model.infer(inputs, options), timeout_s)

    def stream(
        self, inputs: Inputs, options: RequestOptions = PLAIN, timeout_s: float | None = None
    ) -> Generator[Answer, None, None]:
        """Yield answers as they come; raises InferError, or TimeoutError where the next one takes too long.

        To close the generator is to cancel the request.
        """
        return self._server.each(self._model.stream(inputs, options), timeout_s)

    def is_ready(self) -> bool:
        """Tell whether the model takes requests."""
        return self._server.call(self._model.is_ready())

    def metadata(self) -> Members:
        """Return what the model takes and gives; raises InferError."""
        return self._server.call(_told(self._model.metadata))

    def config(self) -> Members:
        """Return the whole configuration in its JSON form; raises InferError."""
        return self._server.call(_told(self._model.config))

    def statistics(self) -> list[Members]:
        """Return the counters of each version; raises InferError."""
        return self._server.call(_told(self._model.statistics))


def _not_running() -> InferError:
    return InferError(Fault.UNAVAILABLE, "the server does not run")


async def _told(function: Callable[P, T], *arguments: P.args, **others: P.kwargs) -> T:
    """Call a function on the loop, where what it reads does not change under it."""
    return function(*arguments, **others)


@contextmanager
def _signals(told: threading.Event) -> Iterator[None]:
    """Have SIGINT and SIGTERM tell for the length of the block, and end the process the second time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number: int, _frame: FrameType | None) -> None:
        if told.is_set():
            log.warning("Signal (%d) received again. Exiting immediately.", number)
            exit_at_once()
        log.info("Signal (%d) received.", number)
        told.set()

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
