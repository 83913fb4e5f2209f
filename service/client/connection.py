"""Two protocols, one face: how a client reaches its server, by tritonclient.

What tritonclient raises becomes one of the client's own errors here, and nowhere else.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol

from ...proto.datatypes import datatype_of_numpy
from .address import Address
from .errors import ClientError, InferenceServerError, ServerUnreachableError
from .model_spec import Arrays

Parameter = str | int | bool | float

_CONNECTION_FAILED: Final = re.compile("failed to connect|connection refused|Socket closed", re.IGNORECASE)
"""What gRPC itself says; a server that is there has the same status for its own reasons."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request, as both protocols can carry it."""

    model: str
    version: str
    inputs: Arrays
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of HTTP, metadata of gRPC."""


class Connection(Protocol):
    """A way to a server; raises ClientError."""

    async def is_server_ready(self) -> bool:
        """Tell whether the server takes requests."""

    async def is_model_ready(self, model: str, version: str) -> bool:
        """Tell whether a model takes requests."""

    async def model_config(self, model: str, version: str) -> Mapping[str, Any]:
        """Return the configuration of a model as JSON values."""

    async def infer(self, question: Question) -> Arrays:
        """Return the one answer of a model."""

    def stream(self, question: Question) -> AsyncGenerator[Arrays, None]:
        """Yield the answers of a model as they come."""

    async def load_model(self, model: str, config: str | None, files: Mapping[str, bytes] | None) -> None:
        """Have a model loaded."""

    async def unload_model(self, model: str) -> None:
        """Have a model unloaded."""

    async def close(self) -> None:
        """Give the way up."""


def connect(address: Address) -> Connection:
    """Return a way to a server, to be used on the running loop; nobody is asked yet.

    Raises ClientError where tritonclient is missing.
    """
    protocol = "grpc" if address.is_grpc else "http"
    try:
        library = import_module(f"tritonclient.{protocol}.aio")
    except (ImportError, RuntimeError) as error:
        raise ClientError(
            f"a client needs a package that cannot be imported ({error}): pip install 'deuteron[client]'"
        ) from error
    return GrpcConnection(library, address) if address.is_grpc else HttpConnection(library, address)


class _TritonConnection:
    """What both protocols have in common."""

    def __init__(self, library: Any, client: Any) -> None:  # noqa: ANN401 - tritonclient is not typed
        self._library = library
        self._client = client

    async def is_server_ready(self) -> bool:
        """Tell whether the server takes requests."""
        with translated():
            return bool(await self._client.is_server_ready())

    async def is_model_ready(self, model: str, version: str) -> bool:
        """Tell whether a model takes requests."""
        with translated():
            return bool(await self._client.is_model_ready(model, version))

    async def infer(self, question: Question) -> Arrays:
        """Return the one answer of a model."""
        with translated():
            result = await self._client.infer(
                question.model,
                self._inputs(question.inputs),
                question.version,
                headers=dict(question.headers),
                parameters=dict(question.parameters),
            )
        return self._arrays(result)

    async def load_model(self, model: str, config: str | None, files: Mapping[str, bytes] | None) -> None:
        """Have a model loaded."""
        with translated():
            await self._client.load_model(model, config=config, files=files)

    async def unload_model(self, model: str) -> None:
        """Have a model unloaded."""
        with translated():
            await self._client.unload_model(model)

    async def close(self) -> None:
        """Give the way up."""
        await self._client.close()

    def _inputs(self, arrays: Arrays) -> list[Any]:
        inputs = []
        for name, array in arrays.items():
            datatype = datatype_of_numpy(array.dtype).wire_name
            tensor = self._library.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return inputs

    def _arrays(self, result: Any) -> Arrays:  # noqa: ANN401 - as above
        response = result.get_response()
        outputs = response["outputs"] if isinstance(response, dict) else response.outputs
        names = [each["name"] if isinstance(each, dict) else each.name for each in outputs]
        return {name: result.as_numpy(name) for name in names}


class HttpConnection(_TritonConnection):
    """A way by HTTP."""

    def __init__(self, library: Any, address: Address) -> None:  # noqa: ANN401 - as above
        # Whoever asks says how long to wait.
        client = library.InferenceServerClient(address.place, ssl=address.is_secure, conn_timeout=None)
        super().__init__(library, client)

    async def model_config(self, model: str, version: str) -> Mapping[str, Any]:
        """Return the configuration of a model as JSON values."""
        with translated():
            config: Mapping[str, Any] = await self._client.get_model_config(model, version)
        return config

    def stream(self, question: Question) -> AsyncGenerator[Arrays, None]:
        """Raise ClientError: over HTTP a request has one answer."""
        raise ClientError(f"answers of model '{question.model}' are streamed over gRPC: grpc://host")


class GrpcConnection(_TritonConnection):
    """A way by gRPC."""

    def __init__(self, library: Any, address: Address) -> None:  # noqa: ANN401 - as above
        super().__init__(library, library.InferenceServerClient(address.place, ssl=address.is_secure))

    async def model_config(self, model: str, version: str) -> Mapping[str, Any]:
        """Return the configuration of a model as JSON values."""
        with translated():
            answer = await self._client.get_model_config(model, version, as_json=True)
        config: Mapping[str, Any] = answer["config"]
        return config

    async def stream(self, question: Question) -> AsyncGenerator[Arrays, None]:
        """Yield the answers of a model as they come; to close the generator is to cancel the request."""

        async def one() -> AsyncIterator[dict[str, Any]]:
            yield {
                "model_name": question.model,
                "model_version": question.version,
                "inputs": self._inputs(question.inputs),
                "parameters": dict(question.parameters),
            }

        answers = self._client.stream_infer(one(), headers=dict(question.headers))
        try:
            with translated():
                async for result, error in answers:
                    if error is not None:
                        raise error
                    yield self._arrays(result)
        finally:
            answers.cancel()


@contextmanager
def translated() -> Iterator[None]:
    """Raise one of the client's own errors for what tritonclient and the libraries below it raise."""
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415 - an extra

    try:
        yield
    except InferenceServerException as error:
        message, status = error.message(), str(error.status() or "")
        if status == "StatusCode.UNAVAILABLE" and _CONNECTION_FAILED.search(message):
            raise ServerUnreachableError(message) from error
        raise InferenceServerError(message) from error
    except (OSError, EOFError) as error:
        raise ServerUnreachableError(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        # aiohttp and gRPC: each has a tree of its own, and which of the two there is depends on the protocol.
        if type(error).__module__.partition(".")[0] not in ("aiohttp", "grpc"):
            raise
        raise ServerUnreachableError(f"{type(error).__name__}: {error}") from error
