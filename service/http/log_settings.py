"""The log settings over HTTP."""

from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp.web import BaseRequest, StreamResponse

from ...proto.errors import Fault, InferError, internal
from .. import log_settings
from ..log_settings import Value
from ..logs import ServerLog
from .bodies import read_json
from .responses import json_body
from .routes import Match


class LogControl:
    """The handler that tells and changes what is logged."""

    def __init__(self, log: ServerLog, max_input_size: int) -> None:
        self._log = log
        self._max_input_size = max_input_size

    async def handle(self, request: BaseRequest, _match: Match) -> StreamResponse:
        """Change the settings that a POST names, then tell them all; nothing is changed if one is wrong."""
        if request.method == "POST":
            values = _values(await read_json(request, self._max_input_size))
            self._log.change(log_settings.changed(self._log.settings, values, _bad_format))
        return json_body(orjson.dumps(log_settings.members(self._log.settings)))


def _values(members: dict[str, Any]) -> dict[str, Value]:
    """Return what is to be changed; null leaves a setting as it is. Raises InferError."""
    if members.get("log_file") is not None:
        raise log_settings.file_refused()
    named = {name: members[name] for name in log_settings.KINDS if members.get(name) is not None}
    for name, value in named.items():
        is_right, kind = _CHECKS[log_settings.KINDS[name]]
        if not is_right(value):
            raise internal(f"attempt to access JSON non-{kind} as {kind}")
    return named


_CHECKS: Final[dict[type[Value], tuple[Callable[[object], bool], str]]] = {
    bool: (lambda value: type(value) is bool, "boolean"),
    int: (lambda value: type(value) is int and value in range(2**64), "unsigned-integer"),
    str: (lambda value: type(value) is str, "string"),
}


def _bad_format(text: str) -> InferError:
    return InferError(Fault.UNAVAILABLE, f"invalid argument for --log_format, got: {text}")
