"""The generate extension over HTTP: an object of values in, one object or a stream of events out.

The first response decides the status; whatever goes wrong after it can be told in the body only. A stream is
written as its client reads it: a model that is too far ahead waits where it sends, and a client that reads
nothing for too long loses the stream and ends its request.
"""

from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import hdrs
from aiohttp.web import BaseRequest

from ...actors.clock import now
from ...actors.reply import StreamReply
from ...actors.servable import Servable
from ...proto.errors import InferError, internal, invalid
from ...proto.kserve_http.errors import HTTP_STATUS, encode_error
from ...proto.kserve_http.generate import ONE_RESPONSE_EXPECTED, decode_generate, encode_generate, event
from ...proto.message import Request, Response
from ..doorway import Doorway
from ..observer import HTTP
from .bodies import read_body
from .compression import IDENTITY
from .responses import JSON, ChunkedResponse
from .routes import Match

EVENTS: Final = "text/event-stream; charset=utf-8"

log: Final = structlog.stdlib.get_logger(__name__)


class Generate:
    """The handlers that ask models in plain values."""

    def __init__(self, doorway: Doorway, max_input_size: int) -> None:
        self._repository = doorway.repository
        self._observer = doorway.observer
        self._max_input_size = max_input_size

    async def one(self, request: BaseRequest, match: Match) -> ChunkedResponse:
        """Answer with the only response of a model; raises InferError for what keeps it from being asked."""
        received = now() if self._observer.active else None
        model, asked = await self._read(request, match)
        observation = None
        if received is not None:
            observation = self._observer.begin(HTTP, received, asked, model, request.raw_headers)
        first: Response | None = None
        count = 0
        reply = StreamReply()
        asked.flow = reply.flow
        (observation or model).infer(asked, reply)
        try:
            async for response in reply:
                if not response.silent:
                    count += 1
                    first = first or response
        finally:
            _let_go(model, asked, reply)
            if observation is not None:
                observation.close()
        status, text = (HTTPStatus.OK, b"") if first is None else _told(model, asked, first)
        if count != 1:
            text = encode_error(ONE_RESPONSE_EXPECTED)
        answer = ChunkedResponse(request, status, JSON)
        await answer.end(text)
        return answer

    async def stream(self, request: BaseRequest, match: Match) -> ChunkedResponse:
        """Answer with one event a response; raises InferError for what keeps the model from being asked."""
        received = now() if self._observer.active else None
        model, asked = await self._read(request, match)
        observation = None
        if received is not None:
            observation = self._observer.begin(HTTP, received, asked, model, request.raw_headers)
        reply = StreamReply()
        asked.flow = reply.flow
        (observation or model).infer(asked, reply)
        answer: ChunkedResponse | None = None
        try:
            async for response in reply:
                status, text = (HTTPStatus.OK, b"") if response.silent else _told(model, asked, response)
                answer = answer or ChunkedResponse(request, status, EVENTS)
                if text:
                    await answer.send(event(text))
        finally:
            _let_go(model, asked, reply)
            if observation is not None:
                observation.close()
        answer = answer or ChunkedResponse(request, HTTPStatus.OK, EVENTS)
        await answer.end()
        return answer

    async def _read(self, request: BaseRequest, match: Match) -> tuple[Servable, Request]:
        """Return whom a request asks and what; raises InferError."""
        self._repository.find(match.model, match.version)
        if (request.headers.get(hdrs.CONTENT_ENCODING) or IDENTITY) != IDENTITY:
            raise invalid("Unsupported content-encoding, only 'identity' is supported.")
        body = await read_body(request, self._max_input_size)
        # Only now: while the body was on its way another version may have taken the place of the first one.
        model = self._repository.find(match.model, match.version)
        return model, decode_generate(body, model, self._max_input_size)


def _let_go(model: Servable, asked: Request, reply: StreamReply) -> None:
    """Cancel a request whose end nobody has waited for."""
    if not reply.is_complete:
        model.cancel(asked)


def _told(model: Servable, asked: Request, response: Response) -> tuple[int, bytes]:
    """Return the status of a response and its text, be it an answer or an error."""
    try:
        return HTTPStatus.OK, encode_generate(model, asked, response)
    except InferError as error:
        return HTTP_STATUS[error.fault], encode_error(error.message)
    except Exception as error:
        # An error ends its own response and nothing else: the stream may have begun, and others follow.
        log.exception("response failed by an error of the server", model=model.name)
        told = internal(f"unexpected error of the server: {type(error).__name__}")
        return HTTP_STATUS[told.fault], encode_error(told.message)
