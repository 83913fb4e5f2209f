"""Clients of one model for programs with an event loop.

A client looks its model up once, at its first request, and waits for it until then; so server and client may
be started in any order. Afterwards it knows names and datatypes, and a request is the arrays alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final, Self, cast

from .address import Address
from .connection import Connection, Parameter, Question, connect
from .errors import (
    ClientClosedError,
    ClientTimeoutError,
    ClientValueError,
    ModelUnavailableError,
    ServerUnreachableError,
)
from .model_spec import Arrays, ModelSpec

INIT_TIMEOUT_S: Final = 300.0
INFERENCE_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05
_MAX_POLL_S: Final = 1.0

Parameters = Mapping[str, Parameter]
Headers = Mapping[str, object]


class _Client:
    """What both clients have in common: a connection, a model, and what is known of it."""

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

        Without `lazy_init` the block that the client is used in begins when the model is ready.
        """
        self.address = Address.parse(url)
        self.model_name = model_name
        self.model_version = "" if model_version is None else str(model_version)
        self._lazy = lazy_init
        self.init_timeout_s = init_timeout_s
        self.inference_timeout_s = inference_timeout_s
        self.spec = model_config
        """What is known of the model so far."""
        self._looking_up: asyncio.Task[ModelSpec] | None = None
        self._opened: Connection | None = None
        self._closed = False

    @classmethod
    def from_existing_client(cls, existing_client: "_Client") -> Self:
        """Return a client of the same model with a connection of its own, which needs not look it up."""
        return cls(
            str(existing_client.address),
            existing_client.model_name,
            existing_client.model_version,
            init_timeout_s=existing_client.init_timeout_s,
            inference_timeout_s=existing_client.inference_timeout_s,
            model_config=existing_client.spec,
        )

    async def __aenter__(self) -> Self:
        if not self._lazy:
            try:
                await self._known()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give up the connection; the client can be asked no more."""
        self._closed = True
        if self._looking_up is not None:
            self._looking_up.cancel()
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    @property
    def model_config(self) -> Awaitable[ModelSpec]:
        """What is known of the model, to be awaited until the model is there; raises ClientError."""
        return self._known()

    async def wait_for_server(self, timeout_s: float = INIT_TIMEOUT_S) -> None:
        """Wait until the server takes requests; raises ClientTimeoutError."""
        await self._wait(self._connection.is_server_ready, timeout_s)

    async def wait_for_model(self, timeout_s: float = INIT_TIMEOUT_S) -> None:
        """Wait until the model takes requests; raises ClientTimeoutError or ModelUnavailableError."""
        await self._wait(
            lambda: self._connection.is_model_ready(self.model_name, self.model_version), timeout_s
        )

    async def load_model(self, config: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Have the server load the model, perhaps with a configuration (JSON) and files of its own."""
        await self._connection.load_model(self.model_name, config, files)
        self.spec = self._looking_up = None

    async def unload_model(self) -> None:
        """Have the server unload the model."""
        await self._connection.unload_model(self.model_name)

    @property
    def _connection(self) -> Connection:
        if self._closed:
            raise ClientClosedError(f"this client of model '{self.model_name}' is closed")
        if self._opened is None:
            self._opened = connect(self.address)
        return self._opened

    async def _known(self) -> ModelSpec:
        if self.spec is None:
            # One look-up for all requests that begin before it is done; who stops waiting leaves it to them.
            if self._looking_up is None or self._looking_up.done():
                self._looking_up = asyncio.create_task(self._look_up())
            self.spec = await asyncio.shield(self._looking_up)
        return self.spec

    async def _look_up(self) -> ModelSpec:
        await self.wait_for_model(self.init_timeout_s)
        return ModelSpec.from_json(await self._connection.model_config(self.model_name, self.model_version))

    async def _wait(self, is_ready: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        unreachable: ServerUnreachableError | None = None
        pause = _POLL_S
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        if await is_ready():
                            return
                        unreachable = None
                    except ServerUnreachableError as error:
                        unreachable = error
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _MAX_POLL_S)
        except TimeoutError:
            waited = f"within {timeout_s:g} seconds"
            if unreachable is not None:
                raise ClientTimeoutError(
                    f"nobody answered at {self.address} {waited}: {unreachable}"
                ) from unreachable
            raise ModelUnavailableError(
                f"{self.address} answered, and model '{self.model_name}' was not ready {waited}"
            ) from None

    def _question(self, inputs: Arrays, parameters: Parameters | None, headers: Headers | None) -> Question:
        told = {name: str(value) for name, value in (headers or {}).items()}
        # Callers need not be typed.
        for name, value in cast("Mapping[object, object]", parameters or {}).items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool):
                raise ClientValueError(f"parameter {name!r} is a {type(value).__name__}; it cannot be sent")
        return Question(self.model_name, self.model_version, inputs, parameters or {}, told)


class AsyncioModelClient(_Client):
    """Asks a model that gives one answer; any number of requests may be on their way."""

    async def infer_sample(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Arrays:
        """Return the outputs for one sample: arrays without a batch dimension. Raises ClientError.

        Inputs are arrays, or what numpy makes one of, by their places or by their names.
        """
        spec = await self._plain()
        asked = self._question(spec.sample(inputs, named_inputs), parameters, headers)
        return spec.unbatched(await self._infer(asked))

    async def infer_batch(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> Arrays:
        """Return the outputs for a batch, whose rows are along the first axis. Raises ClientError."""
        spec = await self._plain()
        return await self._infer(self._question(spec.batch(inputs, named_inputs), parameters, headers))

    async def _plain(self) -> ModelSpec:
        spec = await self._known()
        if spec.decoupled:
            raise ClientValueError(
                f"model '{spec.name}' gives any number of answers; ask it with a decoupled client"
            )
        return spec

    async def _infer(self, question: Question) -> Arrays:
        try:
            async with asyncio.timeout(self.inference_timeout_s):
                return await self._connection.infer(question)
        except TimeoutError:
            raise _too_late(self.model_name, self.inference_timeout_s) from None


class AsyncioDecoupledModelClient(_Client):
    """Asks a model that gives any number of answers, over gRPC."""

    async def infer_sample(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> AsyncGenerator[Arrays, None]:
        """Yield the outputs for one sample as they come; raises ClientError.

        The timeout holds for each of them. To close the generator is to cancel the request.
        """
        spec = await self._known()
        asked = self._question(spec.sample(inputs, named_inputs), parameters, headers)
        async with aclosing(self._stream(asked)) as answers:
            async for outputs in answers:
                yield spec.unbatched(outputs)

    async def infer_batch(
        self,
        *inputs: object,
        parameters: Parameters | None = None,
        headers: Headers | None = None,
        **named_inputs: object,
    ) -> AsyncGenerator[Arrays, None]:
        """Yield the outputs for a batch as they come; raises ClientError."""
        spec = await self._known()
        asked = self._question(spec.batch(inputs, named_inputs), parameters, headers)
        async with aclosing(self._stream(asked)) as answers:
            async for outputs in answers:
                yield outputs

    async def _stream(self, question: Question) -> AsyncGenerator[Arrays, None]:
        async with aclosing(self._connection.stream(question)) as answers:
            while True:
                try:
                    async with asyncio.timeout(self.inference_timeout_s):
                        outputs = await anext(answers)
                except TimeoutError:
                    raise _too_late(self.model_name, self.inference_timeout_s) from None
                except StopAsyncIteration:
                    return
                yield outputs


def _too_late(model: str, timeout_s: float) -> ClientTimeoutError:
    return ClientTimeoutError(f"model '{model}' did not answer within {timeout_s:g} seconds")
