"""From methods to the handlers that grpcio calls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from ....proto.errors import InferError
from ...settings import Compression
from ..call import ClientGoneError, Metadata, Piece
from ..inference import Inference
from ..method import Method, Streaming, Unary
from ..rpc import as_infer_error
from ..status import STATUS_OF, details_of

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

ENCODING: Final = "grpc-internal-encoding-request"
"""The metadata that tells gRPC how to compress a call; `set_compression` of its asyncio half does nothing."""
_ALGORITHM: Final[Mapping[Compression, str]] = {
    Compression.LOW: "gzip",
    Compression.MEDIUM: "deflate",
    Compression.HIGH: "deflate",
}
"""What gRPC makes of a level for clients that take all of its algorithms; others get what they take."""
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def rpc_handlers(methods: Mapping[str, Method]) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """Return what finds the handlers of methods.

    It is generic on purpose: for every method that is registered by its name, grpcio's server waits for one
    more future with each call that comes in.
    """
    return _Handlers({path: _handler(method) for path, method in methods.items()})


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._handlers.get(handler_call_details.method)


def _handler(method: Method) -> Handler:
    behaviour = method.behaviour
    if isinstance(behaviour, Streaming):
        return grpc.stream_stream_rpc_method_handler(_streaming(method, behaviour))
    answer = _inference(behaviour) if isinstance(behaviour, Inference) else _unary(behaviour)
    return grpc.unary_unary_rpc_method_handler(_answering(method, answer))


def _answering(
    method: Method, answer: Callable[[bytes, Context], Awaitable[bytes]]
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def call(body: bytes, context: Context) -> bytes:
        try:
            await _begin(method, context)
            return await answer(body, context)
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            await _end_with(context, error)

    return call


def _unary(behaviour: Unary) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def answer(body: bytes, _context: Context) -> bytes:
        return await behaviour.call(body)

    return answer


def _inference(behaviour: Inference) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def answer(body: bytes, context: Context) -> bytes:
        answered: asyncio.Future[Sequence[Piece] | InferError] = asyncio.get_running_loop().create_future()
        asked = behaviour.ask(body, _metadata_of(context), answered.set_result)
        try:
            outcome = await answered
        except asyncio.CancelledError:
            asked.cancel()
            raise
        if isinstance(outcome, InferError):
            raise outcome
        return b"".join(outcome)

    return answer


def _streaming(method: Method, behaviour: Streaming) -> Callable[[AsyncIterator[bytes], Context], Any]:
    async def call(messages: AsyncIterator[bytes], context: Context) -> None:
        try:
            await _begin(method, context)
            await behaviour.serve(_Call(messages, context))
        except Exception as error:  # noqa: BLE001 - an error ends its own call and nothing else
            await _end_with(context, error)

    return call


class _Call:
    """A call that grpcio carries."""

    def __init__(self, messages: AsyncIterator[bytes], context: Context) -> None:
        self._messages = messages
        self._context = context

    @property
    def metadata(self) -> Metadata:
        return _metadata_of(self._context)

    async def messages(self) -> AsyncIterator[Piece]:
        try:
            async for message in self._messages:
                yield message
        except grpc.aio.BaseError:
            raise ClientGoneError from None

    def hand_to(self, take: Callable[[Piece], bool]) -> None:
        pass

    def write_at_once(self, message: Sequence[Piece]) -> bool:
        return False

    async def write(self, *message: Piece) -> None:
        try:
            await self._context.write(b"".join(message))
        except grpc.aio.BaseError:
            raise ClientGoneError from None


def _metadata_of(context: Context) -> Metadata:
    metadata: Metadata = context.invocation_metadata() or ()  # type: ignore[assignment]  # pairs, at run time
    return metadata


async def _begin(method: Method, context: Context) -> None:
    """Let a call begin, with its answers compressed where that is wanted; raises InferError."""
    if method.requirement is not None:
        method.check(_metadata_of(context))
    algorithm = _ALGORITHM.get(method.compression)
    if algorithm is not None:
        await context.send_initial_metadata(((ENCODING, algorithm),))


async def _end_with(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error."""
    told = as_infer_error(error)
    await context.abort(_CODES[STATUS_OF[told.fault]], details_of(told))
