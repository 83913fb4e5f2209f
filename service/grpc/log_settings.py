"""The log settings over gRPC."""

from typing import Final

from ...proto.errors import InferError, invalid
from ...proto.schema import grpc_service_pb2 as pb
from .. import log_settings
from ..log_settings import Value
from ..logs import ServerLog

_FIELDS: Final[dict[type[Value], tuple[str, str]]] = {
    bool: ("bool_param", "boolean"),
    int: ("uint32_param", "int32"),
    str: ("string_param", "string"),
}
"""The field that carries a value of a type, and what an error calls the type."""


class LogControl:
    """The handler that tells and changes what is logged."""

    def __init__(self, log: ServerLog) -> None:
        self._log = log

    async def handle(self, asked: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Change the settings that are named, then tell them all; nothing is changed if one is wrong."""
        values = _values(asked)
        if values:
            self._log.change(log_settings.changed(self._log.settings, values, _bad_format))
        told = pb.LogSettingsResponse()
        for name, value in log_settings.members(self._log.settings).items():
            setattr(told.settings[name], _FIELDS[type(value)][0], value)
        return told


def _values(asked: pb.LogSettingsRequest) -> dict[str, Value]:
    if "log_file" in asked.settings:
        raise log_settings.file_refused()
    values: dict[str, Value] = {}
    for name, kind in log_settings.KINDS.items():
        if name not in asked.settings:
            continue
        field, called = _FIELDS[kind]
        setting = asked.settings[name]
        if setting.WhichOneof("parameter_choice") != field:
            raise invalid(f"expect {called} for '{name}'")
        values[name] = getattr(setting, field)
    return values


def _bad_format(text: str) -> InferError:
    return invalid(f"invalid argument for log_format, got: {text}")
