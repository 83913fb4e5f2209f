"""The trace settings over gRPC."""

from typing import Any

from ...proto.errors import invalid
from ...proto.schema import grpc_service_pb2 as pb
from .. import trace_settings
from ..doorway import Doorway


class TraceControl:
    """The handler that tells and changes what is traced."""

    def __init__(self, doorway: Doorway) -> None:
        self._repository = doorway.repository
        self._observer = doorway.observer

    async def handle(self, asked: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Change the settings that are named, of one model or of all, then tell them."""
        trace_settings.check_model(self._repository, asked.model_name)
        if asked.settings:
            self._observer.change_trace(asked.model_name, _changes(asked))
        told = pb.TraceSettingResponse()
        settings = self._observer.trace_settings(asked.model_name)
        for name, value in trace_settings.members(settings).items():
            told.settings[name].value.extend([value] if isinstance(value, str) else value)
        return told


def _changes(asked: pb.TraceSettingRequest) -> trace_settings.Changes:
    """Return what is to be changed, None for what has no value; raises InferError."""
    if "trace_file" in asked.settings:
        raise trace_settings.file_refused()
    changes: dict[str, Any] = {}
    if "trace_level" in asked.settings:
        names = list(asked.settings["trace_level"].value)
        level = trace_settings.read_level(names)
        if level is not None or not names:
            changes["level"] = level
    texts: dict[str, str | None] = {}
    for name in trace_settings.NUMBERS:
        if name in asked.settings:
            values = asked.settings[name].value
            if len(values) > 1:
                raise invalid(f"expect only 1 value for '{name}'")
            texts[name] = values[0] if values else None
    return {**changes, **trace_settings.read_numbers(texts, ", got: ")}
