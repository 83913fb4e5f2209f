"""Where the fields of a configuration stand in its text.

protobuf's own parser reads the text but keeps no locations. So the text is walked once more, with protobuf's
own tokenizer and beside the schema: the walk notes where each field begins, and complains of names that the
schema does not have, all of them, where the parser stops at the first. Everything else that can be wrong with
a text it leaves to the parser: at what it does not understand, it stops.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, ConfigError, entry, parent

Place = tuple[int, int]
"""Line and column, both counted from 1."""

Spots = dict[str, Place]
"""Places of the fields of one message, by their paths within it."""

MAX_COMPLAINTS: Final = 100

_BRACKETS: Final = {"{": 1, "[": 1, "<": 1, "}": -1, "]": -1, ">": -1}
_NOT_A_VALUE: Final = frozenset([*_BRACKETS, ",", ";", ":", ""])
_NUMBER: Final = re.compile(r"-?[0-9]")


@dataclass(frozen=True, slots=True)
class Places:
    """The places of all fields of one text; without a text it knows none."""

    file: str = ""
    spots: Mapping[str, Place] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, path: str) -> Place:
        """Return where a field stands, or what encloses it where the field is not in the text."""
        while path and path not in self.spots:
            path = parent(path)
        return self.spots.get(path, (0, 0))

    def located(self, complaints: Iterable[Complaint]) -> ConfigError:
        """Return the error of these complaints, each with its file, line and column."""
        return ConfigError([self._locate(each) for each in complaints])

    def _locate(self, complaint: Complaint) -> Complaint:
        line, column = self.find(complaint.path)
        return replace(complaint, file=self.file, line=line, column=column)


def walk(text: str, file: str) -> tuple[Places, list[Complaint]]:
    """Return the places of the fields of a text, and a complaint for each name that the schema lacks."""
    walker = _Walker(text, file)
    spots: Spots = {"": (1, 1)}
    with contextlib.suppress(text_format.ParseError, ValueError):  # The parser will say it, and better.
        walker.walk_message(_descriptor(pb.ModelConfig), "", spots)
    return Places(file, MappingProxyType(spots)), walker.complaints


def _descriptor(message: type[pb.ModelConfig]) -> Descriptor:
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[assignment] # the stubs know two classes of it
    return descriptor


class _Walker:
    """One walk over one text."""

    def __init__(self, text: str, file: str) -> None:
        self.tokens = text_format.Tokenizer(text.split("\n"))
        self.file = file
        self.complaints: list[Complaint] = []

    def walk_message(self, message: Descriptor, end: str, spots: Spots) -> str | int:
        """Walk the fields up to the bracket `end` and note them; return the value of a field `key`."""
        key: str | int = ""
        indices: Counter[str] = Counter()
        while not self.tokens.AtEnd() and not self.tokens.TryConsume(end):
            name = self.tokens.ConsumeIdentifierOrNumber()
            place = self.consumed()
            known = message.fields_by_name.get(name)
            if known is None:
                self.complain(place, f'Message type "{message.full_name}" has no field named "{name}".')
                self.skip_value()
            else:
                spots.setdefault(name, place)
                value = self.walk_field(known, place, indices, spots)
                key = value if name == "key" else key
            if not self.tokens.TryConsume(","):
                self.tokens.TryConsume(";")
        return key

    def walk_field(
        self, known: FieldDescriptor, place: Place, indices: Counter[str], spots: Spots
    ) -> str | int:
        """Walk what follows the name of a field: a list, or one value, returned if it is scalar."""
        self.tokens.TryConsume(":")
        if not known.is_repeated or not self.tokens.TryConsume("["):
            return self.walk_value(known, place, indices, spots)
        if not self.tokens.TryConsume("]"):
            self.walk_value(known, None, indices, spots)
            while not self.tokens.TryConsume("]"):
                self.tokens.Consume(",")
                self.walk_value(known, None, indices, spots)
        return ""

    def walk_value(
        self, known: FieldDescriptor, place: Place | None, indices: Counter[str], spots: Spots
    ) -> str | int:
        """Walk one value; it stands at `place`, or where it begins."""
        path = known.name
        if known.is_repeated:
            path += entry(indices[path])
            indices[known.name] += 1
        if known.message_type is None:
            value = self.walk_scalar(known)
            spots.setdefault(path, place or self.consumed())
            return value
        end = ">" if self.tokens.TryConsume("<") else "}"
        if end == "}":
            self.tokens.Consume("{")
        place = place or self.consumed()
        inner: Spots = {}
        key = self.walk_message(known.message_type, end, inner)
        if known.message_type.GetOptions().map_entry:
            path = known.name + entry(key)
            inner = {rest[6:]: spot for rest, spot in inner.items() if rest.startswith("value.")}
        spots[path] = place
        spots.update((f"{path}.{name}", spot) for name, spot in inner.items())
        return ""

    def walk_scalar(self, known: FieldDescriptor) -> str | int:
        """Walk a number, a name or a string."""
        token = self.tokens.token
        if token[:1] in {'"', "'"}:
            return self.tokens.ConsumeString()
        if token in _NOT_A_VALUE:
            raise text_format.ParseError
        self.tokens.NextToken()
        if known.enum_type is not None:
            self.check_enum(known.enum_type, token)
        elif known.name == "key" and _NUMBER.match(token):
            return int(token, 0)
        return token

    def check_enum(self, enum: EnumDescriptor, token: str) -> None:
        """Complain of a name or a number that the enum does not have."""
        if _NUMBER.match(token):
            if int(token, 0) not in enum.values_by_number:
                self.complain(
                    self.consumed(), f'Enum type "{enum.full_name}" has no value with number {token}.'
                )
        elif token not in enum.values_by_name:
            self.complain(self.consumed(), f'Enum type "{enum.full_name}" has no value named {token}.')

    def skip_value(self) -> None:
        """Skip what follows the name of an unknown field: a scalar, a message or a list."""
        self.tokens.TryConsume(":")
        depth = 0
        while not self.tokens.AtEnd():
            token = self.tokens.token
            depth += _BRACKETS.get(token, 0)
            self.tokens.NextToken()
            if depth <= 0 and not (token[0] in "\"'" and self.tokens.token[:1] in {'"', "'"}):
                return

    def consumed(self) -> Place:
        """Return where the token stands that was consumed last."""
        error = self.tokens.ParseErrorPreviousToken("")  # type: ignore[arg-type] # the stubs want a Message
        return error.GetLine() or 0, error.GetColumn() or 0

    def complain(self, place: Place, message: str) -> None:
        """Add a complaint; stops the walk when there are more than anybody reads."""
        if len(self.complaints) == MAX_COMPLAINTS:
            raise text_format.ParseError
        self.complaints.append(Complaint(message, "", self.file, *place).shortened())
