"""Triton's own four client libraries, unmodified, behind plain calls: one test can ask through each."""

import asyncio
import inspect
from collections.abc import Awaitable
from types import ModuleType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .house import Server

LIBRARIES: dict[str, ModuleType] = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}

Array = npt.NDArray[Any]


class Client:
    """One of the four clients, connected; what it returns as a coroutine is waited for."""

    def __init__(self, name: str, server: Server) -> None:
        self.library = LIBRARIES[name]
        self.is_http = name.startswith("http")
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._connect(server.http if self.is_http else server.grpc))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.call("close")
        self._runner.close()

    async def _connect(self, address: str) -> Any:  # noqa: ANN401 - the libraries are not typed
        """Make the client; those of asyncio look for a loop as they are made."""
        return self.library.InferenceServerClient(address)

    def call(self, method: str, *arguments: object, **options: object) -> Any:  # noqa: ANN401
        """Call a method of the client."""
        result = getattr(self._client, method)(*arguments, **options)
        return self._runner.run(_wait(result)) if inspect.isawaitable(result) else result

    def tell(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Call a method that asks for information; return plain values, whatever the protocol."""
        return self.call(method, *arguments) if self.is_http else self.call(method, *arguments, as_json=True)

    def tensor(self, name: str, values: npt.ArrayLike, datatype: str = "", **options: bool) -> InferInput:
        """Make an input of an array; options are those of `set_data_from_numpy`."""
        array = np.asarray(values)
        tensor = self.library.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
        return tensor.set_data_from_numpy(array, **options)

    def output(self, name: str, **options: object) -> InferRequestedOutput:
        """Ask for an output."""
        return self.library.InferRequestedOutput(name, **options)

    def infer(self, model: str, *tensors: InferInput, **options: object) -> InferResult:
        """Ask a model; return the client's result."""
        return self.call("infer", model, list(tensors), **options)

    def refusal(self, method: str, *arguments: object, **options: object) -> tuple[str, str]:
        """Return status and message of the error that a call ends with."""
        try:
            result = self.call(method, *arguments, **options)
        except InferenceServerException as error:
            return error.status(), error.message()
        raise AssertionError(f"{method} was answered: {result}")


async def _wait(awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401
    return await awaitable
