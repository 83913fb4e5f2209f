"""Inference over HTTP: from a body to a model and back."""

import asyncio
from collections.abc import Iterable
from contextlib import nullcontext
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs
from aiohttp.web import BaseRequest, StreamResponse
from multidict import istr

from ...actors.clock import Instant, now
from ...actors.servable import Servable, ask
from ...proto import kserve_http
from ...proto.errors import Fault, InferError
from ...proto.message import Request
from ...proto.output_forms import OutputForms
from ...proto.shared_memory import NO_REGIONS
from ..doorway import Doorway
from ..forwarding import HeaderForwarding
from ..observer import HTTP, Observation
from ..shared_memory import Loan
from .bodies import MAX_BODY_SIZE, read_body
from .compression import IDENTITY, compressed, decompressed, preferred_encoding
from .observed import ObservedResponse
from .responses import BINARY, JSON, ReadyResponse, head_of
from .routes import Match

# Headers are looked up for every request; an `istr` is folded once.
_JSON_LENGTH: Final = istr(kserve_http.HEADER)

_JSON_HEAD: Final = head_of(HTTPStatus.OK, JSON)
_BINARY_HEAD: Final = head_of(HTTPStatus.OK, BINARY, f"{kserve_http.HEADER}: %d\r\n")

_NOTHING_LENT: Final = nullcontext()

RawHeaders = Iterable[tuple[bytes, bytes]]

OFF_LOOP_SIZE: Final = 64 * 1024
"""Bytes from which it pays to compress and decompress on another thread."""


class Inference:
    """The handler that asks models."""

    def __init__(
        self, doorway: Doorway, max_input_size: int, forwarding: HeaderForwarding | None = None
    ) -> None:
        self._repository = doorway.repository
        self.observer = doorway.observer
        self._memory = doorway.shared_memory
        self._max_input_size = max_input_size
        self._decoder = kserve_http.Decoder(max_input_size)
        self._forwarding = forwarding

    async def infer(self, request: BaseRequest, match: Match) -> StreamResponse:
        """Answer one inference request; raises InferError for whatever keeps it from being served."""
        received = now() if self.observer.active else None
        self.find(match)
        headers = request.headers
        json_length = headers.get(_JSON_LENGTH)
        encoding = headers.get(hdrs.CONTENT_ENCODING) or IDENTITY
        body = await read_body(request, self.limit(json_length if encoding == IDENTITY else None))
        if encoding != IDENTITY:
            body = await self._decompress(body, encoding)
        # Only now: while the body was on its way another version may have taken the place of the first one.
        model = self.find(match)
        loan = self.lend()
        with loan or _NOTHING_LENT:
            asked, forms = self.read(model, body, json_length, request.raw_headers, loan)
            accepted = headers.get(hdrs.ACCEPT_ENCODING)
            observation = (
                None if received is None else self.observe(received, asked, model, request.raw_headers)
            )
            if observation is None:
                response = await ask(model, asked)
                return await _encoded(kserve_http.encode_infer(model, asked, response, forms), accepted)
            try:
                response = await ask(observation, asked)
                answer = kserve_http.encode_infer(model, asked, response, forms)
                return ObservedResponse(await _encoded(answer, accepted), observation)
            except BaseException as error:
                observation.close(error)
                raise

    def limit(self, json_length: str | None) -> int:
        """Return the bytes that a body may have.

        Without the header that tells where the JSON ends all is JSON; binary tensors have no bound but that
        of any body.
        """
        return self._max_input_size if json_length is None else MAX_BODY_SIZE

    def lend(self) -> Loan | None:
        """Return the shared memory for the length of one request, None where there is none."""
        return self._memory.lend()

    def read(
        self, model: Servable, body: bytes, json_length: str | None, headers: RawHeaders, loan: Loan | None
    ) -> tuple[Request, OutputForms]:
        """Return the request that a body makes of a model, and the forms of its answer; raises InferError."""
        length = kserve_http.parse_json_length(json_length, len(body))
        asked, forms = self._decoder.decode(body, length, model, loan or NO_REGIONS)
        if self._forwarding is not None:
            asked.parameters = {**asked.parameters, **self._forwarding.select(headers)}
        return asked, forms

    def observe(
        self, received: Instant, asked: Request, model: Servable, headers: RawHeaders
    ) -> Observation | None:
        """Return the observation of a request, if it is observed."""
        return self.observer.begin(HTTP, received, asked, model, headers)

    def knows(self, match: Match) -> bool:
        """Whether there is a version to ask."""
        try:
            self.find(match)
        except InferError:
            return False
        return True

    def find(self, match: Match) -> Servable:
        """Return the version to ask; raises InferError where there is none, or none that HTTP can ask."""
        model = self._repository.find(match.model, match.version)
        if model.config.decoupled:
            raise InferError(
                Fault.UNSUPPORTED,
                "HTTP end point doesn't support models with decoupled transaction policy",
            )
        return model

    async def _decompress(self, body: bytes, encoding: str) -> bytes:
        if len(body) < OFF_LOOP_SIZE:
            return decompressed(body, encoding, self._max_input_size)
        return await asyncio.to_thread(decompressed, body, encoding, self._max_input_size)


def answered(answer: kserve_http.Answer) -> ReadyResponse:
    """Return the response that carries an answer as it is."""
    size = len(answer.head) + sum(map(len, answer.blobs))
    if answer.json_length is None:
        return ReadyResponse(_JSON_HEAD + b"%d\r\n" % size, (answer.head,), size)
    head = _BINARY_HEAD % answer.json_length + b"%d\r\n" % size
    return ReadyResponse(head, (answer.head, *answer.blobs), size)


async def _encoded(answer: kserve_http.Answer, accepted: str | None) -> ReadyResponse:
    """Return the response in an encoding that its client accepts."""
    if accepted is not None and (preferred := preferred_encoding(accepted)) != IDENTITY:
        return await _compress(answer, preferred)
    return answered(answer)


async def _compress(answer: kserve_http.Answer, encoding: str) -> ReadyResponse:
    """Return the response in an encoding; the length of its JSON is told as it is without one."""
    plain = b"".join((answer.head, *answer.blobs))
    if len(plain) < OFF_LOOP_SIZE:
        body = compressed(plain, encoding)
    else:
        body = await asyncio.to_thread(compressed, plain, encoding)
    headers = f"Content-Encoding: {encoding}\r\n"
    if answer.json_length is not None:
        headers += f"{kserve_http.HEADER}: {answer.json_length}\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bContent-Length: %d\r\n" % (
        answer.content_type.encode(),
        headers.encode(),
        len(body),
    )
    return ReadyResponse(head, (body,), len(body))
