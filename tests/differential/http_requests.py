"""HTTP requests of all kinds, from a random number generator.

Requests that end or hang Triton 2.51 are not made: JSON shapes whose byte size overflows, and classes of
strings.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from .http_drafts import CHANGES, HEADER, HttpRequest, good_draft
from .models import MODELS
from .tensors import as_bytes, count_of, elements, shape_of

WITHOUT_CLASSES: Final = frozenset({"BOOL", "FP16", "BYTES"})


def good(rng: Random) -> HttpRequest:
    """Return a request that should be served."""
    draft = good_draft(rng, rng.choice(MODELS))
    return draft.finished("good, binary" if draft.tail else "good, JSON")


def changed(rng: Random) -> HttpRequest:
    """Return a request with one thing changed; sometimes with a second one."""
    kind = rng.choice(sorted(CHANGES))
    model = rng.choice([model for model in MODELS if not model.decoupled])
    draft = good_draft(rng, model)
    rng.choice(CHANGES[kind])(rng, draft)
    if rng.random() < 0.2:
        kind = "two changes"
        rng.choice(CHANGES[rng.choice(sorted(CHANGES))])(rng, draft)
    return draft.finished(kind)


def broken(rng: Random) -> HttpRequest:
    """Return a request whose JSON has one byte too many, too few or another."""
    request = good_draft(rng, rng.choice([model for model in MODELS if not model.decoupled])).finished(
        "broken JSON"
    )
    length = next((int(value) for name, value in request.headers if name == HEADER), len(request.body))
    head = bytearray(request.body[:length])
    at = rng.randrange(len(head))
    match rng.randrange(4):
        case 0:
            del head[at]
        case 1:
            head[at] = rng.choice(b'{}[]",:x0-.e\\\x00\xff /tfn')
        case 2:
            head.insert(at, rng.choice(b'{}[]",:x-.e\\\x00\xff /tfn'))
        case _:
            del head[at:]
    tail = request.body[length:]
    headers = tuple((name, str(len(head)) if name == HEADER else value) for name, value in request.headers)
    return HttpRequest(request.kind, "POST", request.path, bytes(head) + tail, headers)


def raw(rng: Random) -> HttpRequest:
    """Return a raw binary request, in which the body is the one input."""
    model = rng.choice([model for model in MODELS if not model.decoupled])
    place = model.inputs[0]
    shape = shape_of(rng, model, place, 1)
    body = as_bytes(place.datatype, elements(rng, place.datatype, count_of(shape)))
    if model.name.startswith("failing"):
        body = rng.randint(0, 10).to_bytes(4, "little")
    match rng.randrange(6):
        case 0:
            body += b"\x00" * rng.randint(1, 7)
        case 1:
            body = body[: -rng.randint(1, 7)]
        case 2:
            body = b""
    headers = () if not body and rng.random() < 0.5 else ((HEADER, "0"),)
    return HttpRequest("raw", "POST", f"/v2/models/{model.name}/infer", body, headers)


def classes(rng: Random) -> HttpRequest:
    """Return a request for classes instead of values."""
    fit = [m for m in MODELS if m.outputs[0].datatype not in WITHOUT_CLASSES and not m.decoupled]
    model = rng.choice([m for m in fit if m.name.startswith("labelled")] if rng.random() < 0.6 else fit)
    model = model if not model.name.startswith("everything") else MODELS[3]
    draft = good_draft(rng, model)
    wanted = rng.choice((1, 2, 3, 6, 100, 0, -1, "1", 2.5, None, True))
    parameters: dict[str, Any] = {"classification": wanted}
    if rng.random() < 0.4:
        parameters["binary_data"] = True
    draft.document["outputs"] = [{"name": model.outputs[0].name, "parameters": parameters}]
    return draft.finished("classes")


_ENCODERS: Final[dict[str, Callable[[bytes], bytes]]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def compressed(rng: Random) -> HttpRequest:
    """Return a request in an encoding, or one that wants its answer in one."""
    request = good_draft(rng, rng.choice([model for model in MODELS if not model.decoupled])).finished(
        "compression"
    )
    headers, body = list(request.headers), request.body
    if rng.random() < 0.7:
        encoding = rng.choice(("gzip", "deflate", "identity", "", "br", "GZIP", "gzip, deflate"))
        headers.append(("Content-Encoding", encoding))
        if rng.random() < 0.85:
            body = _ENCODERS.get(encoding, bytes)(body)
        if rng.random() < 0.2:
            body = rng.choice((body[:-3], body + b"more", b""))
    if rng.random() < 0.6:
        accepted = (
            "gzip",
            "deflate",
            "identity",
            "gzip;q=0.5, deflate;q=0.9",
            "*",
            "br",
            "",
            "gzip, deflate",
        )
        headers.append(("Accept-Encoding", rng.choice(accepted)))
    return HttpRequest(request.kind, "POST", request.path, body, tuple(headers))


def chunked(rng: Random) -> HttpRequest:
    """Return a good request whose body comes in chunks."""
    request = good(rng)
    return HttpRequest("chunked", "POST", request.path, request.body, request.headers, chunked=True)


_ROUTES: Final = (
    *("/", "/v2", "/v2/", "/v2?x=1", "/v2/health", "/v2/health/live", "/v2/health/ready", "/v2/health/other"),
    *("/metrics", "/v1/models/{}", "/v2/models", "/v2/models/", "/v2/models/{}", "/v2/models/{}/"),
    *("/v2/models/{}/other", "/v2/models/{}/ready", "/v2/models/{}/config", "/v2/models/{}/config/"),
    *("/v2/models/{}/infer", "/v2/models/{}/infer/", "/v2/models/{}//infer", "/v2/models//infer"),
    *("/v2/models/{}/versions", "/v2/models/{}/versions/1", "/v2/models/{}/versions/1/"),
    *("/v2/models/{}/versions/9", "/v2/models/{}/versions/x", "/v2/models/{}/versions/1/config"),
    *("/v2/models/{}/versions/1/ready", "/v2/models/{}/versions/9/ready"),
    *("/v2/models/{}/versions/99999999999999999999/config", "/v2/repository", "/v2/repository/index"),
    *("/v2/repository/mine/index", "/v2/repository/models/{}/load", "/v2/repository/models/{}/unload"),
    "/v2/repository/mine/models/{}/load",
)


def route(rng: Random) -> HttpRequest:
    """Return a request for some path with some method."""
    path = rng.choice(_ROUTES).format(rng.choice([m.name for m in MODELS] + ["absent", "%61dd_sub"]))
    method = rng.choice(("GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"))
    body = b""
    if method == "POST":
        body = rng.choice((b"", b"{}", b'{"ready": true}', b'{"ready": false}', b'{"x": 1}', b"[]", b"{"))
    return HttpRequest("routes", method, path, body)


KINDS: Final = (
    (good, 20),
    (changed, 45),
    (broken, 8),
    (raw, 6),
    (classes, 6),
    (compressed, 6),
    (chunked, 2),
    (route, 7),
)


def http_requests(rng: Random, number: int) -> Iterator[HttpRequest]:
    """Return so many requests of all kinds."""
    makers, weights = zip(*KINDS, strict=True)
    for maker in rng.choices(makers, weights, k=number):
        yield maker(rng)
