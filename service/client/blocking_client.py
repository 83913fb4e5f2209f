"""Clients of one model for programs without an event loop: they wait, or hand out futures.

They are the asynchronous ones, on a loop that all such clients of a process share.
"""

import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from ..loop_thread import LoopThread
from .asyncio_client import (
    INFERENCE_TIMEOUT_S,
    INIT_TIMEOUT_S,
    AsyncioDecoupledModelClient,
    AsyncioModelClient,
    Headers,
    Parameters,
)
from .errors import QueueFullError
from .model_spec import Arrays, ModelSpec

T = TypeVar("T")
C = TypeVar("C", AsyncioModelClient, AsyncioDecoupledModelClient)

MAX_PENDING: Final = 128


class _SharedLoop:
    """The loop of all clients that wait; made for the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None

    def get(self) -> LoopThread:
        """Return the loop."""
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("deuteron-clients")
            return self._thread


_LOOP: Final = _SharedLoop()


class _WaitingClient(Generic[C]):
    """What the waiting clients have in common: an asynchronous one, and a loop to have it on."""

    _kind: ClassVar[type[Any]]

    def __init__(  # noqa: PLR0913 - the names and places that PyTriton gives them
        self,
        url: str,
        model_name: str,
        model_version: str | int | None = None,
        *,
        lazy_init: bool = True,
        init_timeout_s: float = INIT_TIMEOUT_S,
        inference_timeout_s: float = INFERENCE_TIMEOUT_S,
        model_config: ModelSpec | None = None,
    ) -> None:
        """Take where the server is and which model is meant; raises InvalidUrlError.

        Without `lazy_init` this waits until the model is ready; raises ClientError where it is not in time.
        """
        self._client: C = self._kind(
            url,
            model_name,
            model_version,
            init_timeout_s=init_timeout_s,
            inference_timeout_s=inference_timeout_s,
            model_config=model_config,
        )
        self._loop = _LOOP.get()
        if not lazy_init:
            try:
                self.wait_for_model(init_timeout_s)
            except BaseException:
                self.close()
                raise

    @classmethod
    def from_existing_client(cls, existing_client: "_WaitingClient[C]") -> Self:
        """Return a client of the same model with a connection of its own, which needs not look it up."""
        client = cls.__new__(cls)
        client._client = cls._kind.from_existing_client(existing_client._client)  # noqa: SLF001 - its own class
        client._loop = existing_client._loop  # noqa: SLF001 - its own class
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connection; the client can be asked no more."""
        self._loop.call(self._client.close())

    @property
    def model_config(self) -> ModelSpec:
        """What is known of the model, after waiting for it; raises ClientError."""
        return self._loop.call(_awaited(self._client))

    @property
    def is_batching_supported(self) -> bool:
        """Whether the model takes batches; raises ClientError."""
        return self.model_config.supports_batching

    def wait_for_server(self, timeout_s: float = INIT_TIMEOUT_S) -> None:
        """Wait until the server takes requests; raises ClientTimeoutError."""
        self._loop.call(self._client.wait_for_server(timeout_s))

    def wait_for_model(self, timeout_s: float = INIT_TIMEOUT_S) -> None:
        """Wait until the model takes requests; raises ClientTimeoutError or ModelUnavailableError."""
        self._loop.call(self._client.wait_for_model(timeout_s))

    def load_model(self, config: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Have the server load the model, perhaps with a configuration (JSON) and files of its own."""
        self._loop.call(self._client.load_model(config, files))

    def unload_model(self) -> None:
        """Have the server unload the model."""
        self._loop.call(self._client.unload_model())


async def _awaited(client: AsyncioModelClient | AsyncioDecoupledModelClient) -> ModelSpec:
    return await client.model_config


class ModelClient(_WaitingClient[AsyncioModelClient]):
    """Asks a model that gives one answer, and waits for it; may be used from several threads."""

    _kind = AsyncioModelClient

    def infer_sample(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Arrays:
        """Return the outputs for one sample: arrays without a batch dimension. Raises ClientError.

        Inputs are arrays, or what numpy makes one of, by their places or by their names.
        """
        asked = self._client.infer_sample(*inputs, parameters=parameters, headers=headers, **named_inputs)
        return self._loop.call(asked)

    def infer_batch(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Arrays:
        """Return the outputs for a batch, whose rows are along the first axis. Raises ClientError."""
        asked = self._client.infer_batch(*inputs, parameters=parameters, headers=headers, **named_inputs)
        return self._loop.call(asked)


class DecoupledModelClient(_WaitingClient[AsyncioDecoupledModelClient]):
    """Asks a model that gives any number of answers, over gRPC, and waits for each."""

    _kind = AsyncioDecoupledModelClient

    def infer_sample(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Generator[Arrays, None, None]:
        """Yield the outputs for one sample as they come; raises ClientError.

        To close the generator is to cancel the request.
        """
        asked = self._client.infer_sample(*inputs, parameters=parameters, headers=headers, **named_inputs)
        return self._loop.each(asked)

    def infer_batch(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Generator[Arrays, None, None]:
        """Yield the outputs for a batch as they come; raises ClientError."""
        asked = self._client.infer_batch(*inputs, parameters=parameters, headers=headers, **named_inputs)
        return self._loop.each(asked)


class FuturesModelClient:
    """Asks a model that gives one answer, and hands out a future for it; used from any thread."""

    def __init__(  # noqa: PLR0913 - the names and places that PyTriton gives them
        self,
        url: str,
        model_name: str,
        model_version: str | int | None = None,
        *,
        max_queue_size: int = MAX_PENDING,
        non_blocking: bool = False,
        init_timeout_s: float = INIT_TIMEOUT_S,
        inference_timeout_s: float = INFERENCE_TIMEOUT_S,
    ) -> None:
        """Take where the server is and which model is meant; raises InvalidUrlError.

        So many requests may be on their way; one more waits for its turn, or raises QueueFullError where
        nothing may block.
        """
        self._client = AsyncioModelClient(
            url,
            model_name,
            model_version,
            init_timeout_s=init_timeout_s,
            inference_timeout_s=inference_timeout_s,
        )
        self._loop = _LOOP.get()
        self._room = threading.BoundedSemaphore(max_queue_size)
        self._blocking = not non_blocking
        self._pending: set[Future[Any]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self, *, wait: bool = True) -> None:
        """Wait for the answers that are still to come, or cancel them; then give the connection up."""
        for future in list(self._pending):
            if wait:
                future.exception()
            else:
                future.cancel()
        self._loop.call(self._client.close())

    def model_config(self) -> "Future[ModelSpec]":
        """Have a future for what is known of the model."""
        return self._begin(lambda: _awaited(self._client))

    def wait_for_model(self, timeout_s: float = INIT_TIMEOUT_S) -> "Future[None]":
        """Have a future for the moment at which the model takes requests."""
        return self._begin(lambda: self._client.wait_for_model(timeout_s))

    def infer_sample(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> "Future[Arrays]":
        """Have a future for the outputs for one sample; raises QueueFullError."""
        return self._begin(
            lambda: self._client.infer_sample(*inputs, parameters=parameters, headers=headers, **named_inputs)
        )

    def infer_batch(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> "Future[Arrays]":
        """Have a future for the outputs for a batch; raises QueueFullError."""
        return self._begin(
            lambda: self._client.infer_batch(*inputs, parameters=parameters, headers=headers, **named_inputs)
        )

    def _begin(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        if not self._room.acquire(blocking=self._blocking):
            raise QueueFullError("as many requests are on their way as may be")
        future = self._loop.begin(ask())
        self._pending.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: "Future[Any]") -> None:
        self._pending.discard(future)
        self._room.release()
