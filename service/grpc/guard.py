"""What stands before calls only where an operator asked for it: a guard, and a choice of compression."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import grpc

from ...proto.errors import Fault, InferError
from ..policy import Policy, Requirement
from ..settings import Compression
from .rpc import Context, end_with

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Behaviour = Callable[[Any, Context], Awaitable[Any]]

_BEHAVIOURS: Final = ("unary_unary", "unary_stream", "stream_stream")
"""The places in which a handler may keep what it does."""

ENCODING: Final = "grpc-internal-encoding-request"
"""The metadata that tells gRPC how to compress a call; `set_compression` of its asyncio half does nothing."""
_ALGORITHM: Final[Mapping[Compression, str]] = {
    Compression.LOW: "gzip",
    Compression.MEDIUM: "deflate",
    Compression.HIGH: "deflate",
}
"""What gRPC makes of a level for clients that take all of its algorithms; others get what they take."""


def guarded_all(service: str, handlers: Mapping[str, Handler], policy: Policy) -> dict[str, Handler]:
    """Return the handlers of a service, each behind its guard; raises KeyError for a call in no group."""
    return {method: guarded(handler, policy.of_rpc(service, method)) for method, handler in handlers.items()}


def guarded(handler: Handler, requirement: Requirement | None) -> Handler:
    """Return the handler behind a guard that asks for a key; the handler itself where none is set."""
    if requirement is None:
        return handler
    key = requirement.header.lower()  # on the wire, keys have no capitals

    def guard(behaviour: Behaviour) -> Behaviour:
        async def check(asked: object, context: Context) -> object:
            given = next((value for name, value in context.invocation_metadata() or () if name == key), None)
            if not requirement.is_met_by(given):
                told = f"This protocol is restricted, expecting header '{requirement.header}'"
                await end_with(context, InferError(Fault.UNAVAILABLE, told))
            return await behaviour(asked, context)

        return check

    return _wrapped(handler, guard)


def compressing(handler: Handler, level: Compression) -> Handler:
    """Return the handler with its responses compressed; the handler itself where they are not."""
    algorithm = _ALGORITHM.get(level)
    if algorithm is None:
        return handler

    def choose(behaviour: Behaviour) -> Behaviour:
        async def call(asked: object, context: Context) -> object:
            await context.send_initial_metadata(((ENCODING, algorithm),))
            return await behaviour(asked, context)

        return call

    return _wrapped(handler, choose)


def _wrapped(handler: Any, wrap: Callable[[Behaviour], Behaviour]) -> Handler:  # noqa: ANN401 - not in the stubs
    """Return a handler of the same kind that does something more."""
    kind = next(name for name in _BEHAVIOURS if getattr(handler, name) is not None)
    wrapped: Handler = handler._replace(**{kind: wrap(getattr(handler, kind))})
    return wrapped
