"""The text form of a configuration, `config.pbtxt`: protobuf's text format, with all complaints at once."""

from typing import Final

from google.protobuf import text_format

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, ConfigError
from .places import Places, walk

MAX_TEXT_BYTES: Final = 1 << 20
"""Larger texts are refused unread."""


def parse_text(text: bytes, file: str) -> tuple[pb.ModelConfig, Places]:
    """Return the message that a text spells, and where its fields stand.

    `file` is only a name, for complaints. Raises ConfigError with every unknown field and enum value, and the
    first syntax error.
    """
    decoded = _decode(text, file)
    places, complaints = walk(decoded, file)
    message = pb.ModelConfig()
    try:
        text_format.Parse(decoded, message)
    except text_format.ParseError as error:
        complaint = _complaint(error, decoded, file)
        if all((each.line, each.column) != (complaint.line, complaint.column) for each in complaints):
            complaints.append(complaint)
    except ValueError as error:  # A number that no field can hold; an enum's is among the complaints already.
        if not complaints:
            complaints.append(Complaint(str(error), "", file, 1, 1))
    if complaints:
        raise ConfigError(sorted(complaints, key=lambda each: (each.line, each.column)))
    return message, places


def _decode(text: bytes, file: str) -> str:
    if len(text) > MAX_TEXT_BYTES:
        message = f"configuration has {len(text)} bytes, which exceeds the maximum of {MAX_TEXT_BYTES} bytes"
        raise ConfigError([Complaint(message, "", file, 1, 1)])
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        lines = text[: error.start].decode().split("\n")
        message = f"configuration is not UTF-8 text: {error.reason}"
        raise ConfigError([Complaint(message, "", file, len(lines), len(lines[-1]) + 1)]) from None


def _complaint(error: text_format.ParseError, text: str, file: str) -> Complaint:
    """Return protobuf's complaint without the place and the line that it quotes."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    message = str(error).removeprefix(f"{line}:{column} : ")
    for quoted in (text.split("\n")[line - 1], ""):
        message = message.removeprefix(f"'{quoted}': ")
    return Complaint(message, "", file, line, column).shortened()
