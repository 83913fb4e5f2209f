"""The guard before operations that an operator has closed: who has no key is told which header is one."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp.web import BaseRequest, StreamResponse

from ..policy import Requirement
from .responses import error_of
from .routes import Match

Handler = Callable[[BaseRequest, Match], Awaitable[StreamResponse]]


def guarded(handler: Handler, requirement: Requirement | None) -> Handler:
    """Return the handler behind a guard that asks for a key; the handler itself where none is set."""
    if requirement is None:
        return handler

    async def check(request: BaseRequest, match: Match) -> StreamResponse:
        if not requirement.is_met_by(request.headers.get(requirement.header)):
            told = f"This API is restricted, expecting header '{requirement.header}'"
            return error_of(HTTPStatus.FORBIDDEN, told)
        return await handler(request, match)

    return check
