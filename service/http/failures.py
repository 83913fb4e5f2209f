"""Whatever goes wrong with a request, turned into the response that tells its client."""

from http import HTTPStatus
from typing import Final

import structlog
from aiohttp.web_protocol import RequestPayloadError

from ...proto.errors import InferError
from .bodies import BodyRefusedError
from .compression import ENCODINGS, UnknownEncodingError
from .responses import ReadyResponse, error_of, failure
from .routes import NoRouteError

log: Final = structlog.stdlib.get_logger(__name__)

_KNOWN_ENCODINGS: Final = f"Accept-Encoding: {', '.join(ENCODINGS)}\r\n"


def response_to(error: Exception, path: str) -> ReadyResponse:
    """Return the response that tells of an error; one that is not made for clients goes to the log."""
    match error:
        case UnknownEncodingError():
            response = failure(error, headers=_KNOWN_ENCODINGS)
        case InferError():
            response = failure(error)
        case BodyRefusedError():
            response = failure(error.error, close=True)
        case RequestPayloadError():
            response = error_of(HTTPStatus.BAD_REQUEST, "the request body is malformed", close=True)
        case NoRouteError():
            response = error_of(HTTPStatus.NOT_FOUND, "Not Found")
        case _:
            log.error("request failed by an error of the server", path=path, exc_info=error)
            told = f"unexpected error of the server: {type(error).__name__}"
            response = error_of(HTTPStatus.INTERNAL_SERVER_ERROR, told)
    return response
