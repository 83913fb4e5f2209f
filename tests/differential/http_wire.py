"""An HTTP connection that sends what it is told to, byte by byte, and reads what comes back."""

import gzip
import json
import socket
import zlib
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any, Final

from .answers import Answer, plain
from .http_drafts import HEADER, HttpRequest

TIMEOUT_S: Final = 5.0


class HttpWire:
    """A connection to one server, opened again whenever the server has closed it."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._address = (host, int(port))
        self._socket: socket.socket | None = None

    def ask(self, request: HttpRequest) -> Answer:
        """Send a request and return the answer; one that is lost or late is an answer of its own."""
        fresh = self._socket is None
        try:
            return self._exchange(request)
        except TimeoutError:
            self.close()
            return Answer("no answer", "")
        except OSError:
            self.close()
            if fresh:
                return Answer("hung up", "")
        return self.ask(request)  # the connection may have been closed after the answer before

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: HttpRequest) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(_as_bytes(request))
        response = HTTPResponse(self._socket, method=request.method)
        try:
            response.begin()
            body = response.read()
        except TimeoutError:
            raise
        except Exception as error:
            raise ConnectionError(str(error)) from error
        if response.will_close:
            self.close()
        return _answer(response, body)


def _as_bytes(request: HttpRequest) -> bytes:
    body = request.body
    headers = list(request.headers)
    if request.chunked:
        headers.append(("Transfer-Encoding", "chunked"))
        pieces = [body[at : at + 50] for at in range(0, len(body), 50)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body or request.method == "POST":
        headers.append(("Content-Length", str(len(body))))
    lines = [f"{request.method} {request.path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _answer(response: HTTPResponse, body: bytes) -> Answer:
    encoding = response.headers.get("Content-Encoding", "")
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body)
    kind = response.headers.get("Content-Type", "")
    length = response.headers.get(HEADER)
    head = body if length is None else body[: int(length)]
    tail = b"" if length is None else body[int(length) :]
    # Triton calls some errors and empty bodies text, others JSON: no client looks there.
    served = response.status == HTTPStatus.OK and body
    about = [str(response.status), kind if served else "", encoding, "" if length is None else "binary"]
    return Answer(" ".join(filter(None, about)), f"{_said(head)} {tail.hex(' ', 4)}".strip())


def _said(body: bytes) -> str:
    try:
        document: Any = json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError:
        return repr(body) if body else ""
    return plain(document)
