"""The trace settings over HTTP."""

from typing import Any

import orjson
from aiohttp.web import BaseRequest, StreamResponse

from ...actors.repository import Repository
from ...proto.errors import internal
from .. import trace_settings
from ..doorway import Doorway
from .bodies import read_json
from .responses import json_body
from .routes import Match


class TraceControl:
    """The handler that tells and changes what is traced."""

    def __init__(self, doorway: Doorway, max_input_size: int) -> None:
        self._repository: Repository = doorway.repository
        self._observer = doorway.observer
        self._max_input_size = max_input_size

    async def handle(self, request: BaseRequest, match: Match) -> StreamResponse:
        """Change the settings that a POST names, of one model or of all, then tell them."""
        trace_settings.check_model(self._repository, match.model)
        if request.method == "POST":
            self._observer.change_trace(match.model, _changes(await read_json(request, self._max_input_size)))
        settings = self._observer.trace_settings(match.model)
        return json_body(orjson.dumps(trace_settings.members(settings)))


def _changes(members: dict[str, Any]) -> trace_settings.Changes:
    """Return what is to be changed, None for what is null; raises InferError."""
    if "trace_file" in members:
        raise trace_settings.file_refused()
    changes: dict[str, Any] = {}
    if "trace_level" in members:
        names = members["trace_level"]
        if names is None:
            changes["level"] = None
        elif (level := trace_settings.read_level(_names(names))) is not None:
            changes["level"] = level
    texts = {name: members[name] for name in trace_settings.NUMBERS if name in members}
    for text in texts.values():
        if text is not None and type(text) is not str:
            raise internal("attempt to access JSON non-string as string")
    return {**changes, **trace_settings.read_numbers(texts, ", got:")}


def _names(value: object) -> list[str]:
    if type(value) is not list:
        raise internal("attempt to access JSON non-array as array")
    for each in value:
        if type(each) is not str:
            raise internal("attempt to access JSON non-string as string")
    return value
