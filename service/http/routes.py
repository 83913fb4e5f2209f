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

    template: str
    """The paths as people read them: what is in brackets may be left out, names are in braces."""
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


_FORMS: Final = {"version": "[0-9]+", "memory": "system|cuda", "change": "register|unregister"}
"""What may stand for the names in braces that do not stand for anything but a slash."""


def _route(template: str, methods: str, operation: Operation) -> Route:
    bare = template.replace("[", "(?:").replace("]", ")?")
    pattern = re.sub(r"\{(\w+)\}", lambda name: f"(?P<{name[1]}>{_FORMS.get(name[1], '[^/]+')})", bare)
    return Route(template, re.compile(pattern, re.ASCII), frozenset(methods.split()), operation)


_MODEL: Final = "/v2/models/{model}[/versions/{version}]"
_REPOSITORY: Final = "/v2/repository[/{repository}]"
_REGION: Final = "/v2/{memory}sharedmemory[/region/{region}]"

ROUTES: Final = (
    _route("/v2/models/stats", "GET", Operation.STATISTICS),
    _route("/v2/logging", "GET POST", Operation.LOGGING),
    _route(_MODEL + "/infer", "POST", Operation.INFER),
    _route(_MODEL + "/generate", "POST", Operation.GENERATE),
    _route(_MODEL + "/generate_stream", "POST", Operation.GENERATE_STREAM),
    _route(_MODEL + "/ready", "GET", Operation.MODEL_READY),
    _route(_MODEL + "/config", "GET", Operation.MODEL_CONFIG),
    _route(_MODEL + "/stats", "GET", Operation.STATISTICS),
    _route("/v2/models/{model}/trace/setting", "GET POST", Operation.TRACE),
    _route(_MODEL, "GET", Operation.MODEL_METADATA),
    _route("/v2", "GET", Operation.SERVER_METADATA),
    _route("/v2/openapi.json", "GET", Operation.DESCRIPTION),
    _route("/v2/health/live", "GET", Operation.SERVER_LIVE),
    _route("/v2/health/ready", "GET", Operation.SERVER_READY),
    _route(_REGION + "/status", "GET", Operation.SHARED_MEMORY_STATUS),
    _route(_REGION + "/{change}", "POST", Operation.SHARED_MEMORY_CHANGE),
    _route(_REPOSITORY + "/index", "POST", Operation.REPOSITORY_INDEX),
    _route(_REPOSITORY + "/models/{model}/load", "POST", Operation.MODEL_LOAD),
    _route(_REPOSITORY + "/models/{model}/unload", "POST", Operation.MODEL_UNLOAD),
    _route("/v2/trace/setting", "GET POST", Operation.TRACE),
)


def spelt_out(template: str) -> list[str]:
    """Return the templates without choices that a template stands for; only names are left in braces."""
    optional = re.search(r"\[(.*?)\]", template)
    if optional:
        before, after = template[: optional.start()], template[optional.end() :]
        return [*spelt_out(before + after), *spelt_out(before + optional[1] + after)]
    for name, form in _FORMS.items():
        if "|" in form and f"{{{name}}}" in template:
            return [
                each for word in form.split("|") for each in spelt_out(template.replace(f"{{{name}}}", word))
            ]
    return [template]


class NoRouteError(Exception):
    """A path that means nothing here."""


class MethodNotAllowedError(Exception):
    """A path that means something, though not with this method."""

    def __init__(self, match: Match) -> None:
        super().__init__()
        self.match = match
        """What the path means; whose operation is closed hears of that first."""


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
            raise MethodNotAllowedError(known)
        return known


def match(method: str, path: str) -> Match:
    """Return what a request line asks for by going through the table; raises as `Switchboard.find`."""
    bare = path.partition("?")[0]
    for route in ROUTES:
        found = route.pattern.fullmatch(bare)
        if found is None:
            continue
        if method not in route.methods:
            raise MethodNotAllowedError(Match(route.operation, route.methods))
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
