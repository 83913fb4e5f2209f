"""A response whose way to the connection is observed."""

from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import BaseRequest, StreamResponse

from ...actors.clock import now
from ..observer import Observation
from .responses import ReadyResponse


class ObservedResponse(StreamResponse):
    """Stands before a response that is ready, and tells an observation when it was sent."""

    def __init__(self, response: ReadyResponse, observation: Observation) -> None:
        # The fields of the base class are for responses that are assembled; none of them is used.
        self._response = response
        self._observation = observation

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on."""
        return self._response.keep_alive

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write everything; raises ConnectionError when nobody is there any more."""
        began = now()
        try:
            return await self._response.prepare(request)
        finally:
            self._observation.sent(began)
            self._observation.close()

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: everything is written already."""
