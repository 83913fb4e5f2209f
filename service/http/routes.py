"""The routes as a table: which path means which operation, in the order in which Triton looks.

A path is matched as it came, without its query and with nothing decoded: a model's name ends at the next
slash, a version is digits or the path does not exist. Whatever matched is remembered, since the same few
paths come again and again; the memory is bounded and forgets everything when it is full.
"""

import re
from dataclasses import dataclass
from typing import Final

from ...proto.message import LATEST
from ...proto.model_version import parse_model_version
from ..operations import Operation

REMEMBERED: Final = 4096
"""Paths whose match is remembered."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row: the paths, the methods they allow, the operation they mean."""

    pattern: re.Pattern[str]
    methods: frozenset[str]
    operation: Operation


@dataclass(frozen=True, slots=True)
class Match:
    """What a path asks for: an operation, and the model and the version it names."""

    operation: Operation
    methods: frozenset[str]
    model: str = ""
    version: int = LATEST
    repository: str = ""
    region: str = ""
    memory: str = ""
    """Where the region lies: `system` or `cuda`."""
    change: str = ""
    """What is to be done with the region: `register` or `unregister` it."""


def _route(pattern: str, methods: str, operation: Operation) -> Route:
    return Route(re.compile(pattern, re.ASCII), frozenset(methods.split()), operation)


_MODEL: Final = r"/v2/models/(?P<model>[^/]+)"
_VERSION: Final = r"(?:/versions/(?P<version>[0-9]+))?"
_REPOSITORY: Final = r"/v2/repository(?:/(?P<repository>[^/]+))?"
_REGION: Final = r"/v2/(?P<memory>system|cuda)sharedmemory(?:/region/(?P<region>[^/]+))?"

ROUTES: Final = (
    _route(r"/v2/models/stats", "GET", Operation.STATISTICS),
    _route(r"/v2/logging", "GET POST", Operation.LOGGING),
    _route(_MODEL + _VERSION + "/infer", "POST", Operation.INFER),
    _route(_MODEL + _VERSION + "/generate", "POST", Operation.GENERATE),
    _route(_MODEL + _VERSION + "/generate_stream", "POST", Operation.GENERATE_STREAM),
    _route(_MODEL + _VERSION + "/ready", "GET", Operation.MODEL_READY),
    _route(_MODEL + _VERSION + "/config", "GET", Operation.MODEL_CONFIG),
    _route(_MODEL + _VERSION + "/stats", "GET", Operation.STATISTICS),
    _route(_MODEL + "/trace/setting", "GET POST", Operation.TRACE),
    _route(_MODEL + _VERSION, "GET", Operation.MODEL_METADATA),
    _route(r"/v2", "GET", Operation.SERVER_METADATA),
    _route(r"/v2/health/live", "GET", Operation.SERVER_LIVE),
    _route(r"/v2/health/ready", "GET", Operation.SERVER_READY),
    _route(_REGION + "/status", "GET", Operation.SHARED_MEMORY_STATUS),
    _route(_REGION + "/(?P<change>register|unregister)", "POST", Operation.SHARED_MEMORY_CHANGE),
    _route(_REPOSITORY + "/index", "POST", Operation.REPOSITORY_INDEX),
    _route(_REPOSITORY + "/models/(?P<model>[^/]+)/load", "POST", Operation.MODEL_LOAD),
    _route(_REPOSITORY + "/models/(?P<model>[^/]+)/unload", "POST", Operation.MODEL_UNLOAD),
    _route(r"/v2/trace/setting", "GET POST", Operation.TRACE),
)


class NoRouteError(Exception):
    """A path that means nothing here."""


class MethodNotAllowedError(Exception):
    """A path that means something, though not with this method."""


class Switchboard:
    """Finds what a method and a path ask for, and remembers it."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Match] = {}

    def find(self, method: str, path: str) -> Match:
        """Return what a request line asks for.

        Raises:
            NoRouteError: for a path that means nothing.
            MethodNotAllowedError: for a method that does not go with the path.
            InferError: for a version beyond 64 bits.
        """
        known = self._known.get(path)
        if known is None:
            known = match(method, path)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[path] = known
        elif method not in known.methods:
            raise MethodNotAllowedError
        return known


def match(method: str, path: str) -> Match:
    """Return what a request line asks for by going through the table; raises as `Switchboard.find`."""
    bare = path.partition("?")[0]
    for route in ROUTES:
        found = route.pattern.fullmatch(bare)
        if found is None:
            continue
        if method not in route.methods:
            raise MethodNotAllowedError
        named = found.groupdict()
        return Match(
            route.operation,
            route.methods,
            named.get("model") or "",
            parse_model_version(named.get("version") or ""),
            named.get("repository") or "",
            named.get("region") or "",
            named.get("memory", ""),
            named.get("change", ""),
        )
    raise NoRouteError
