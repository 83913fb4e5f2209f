"""One option of the command line: its name, its kind, and what becomes of it.

An option is *served* when deuteron does what it asks; then its default is the one written in `Settings`. The
others are Triton's too, and are known so that a command line written for Triton gets a straight answer: one
that tunes machinery deuteron does not have is *inert* (accepted, and said so in the log), one that asks for
something deuteron cannot do is *absent* (refused, unless it asks for what is the case anyway).
"""

from dataclasses import dataclass
from enum import Enum
from functools import reduce

from .settings import Settings
from .values import Kind


class Presence(Enum):
    """What becomes of an option."""

    SERVED = "served"
    INERT = "inert"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the command line."""

    name: str
    kind: Kind
    help: str
    place: str = ""
    """Where a served option lands: `section.field` of `Settings`, or a field of `Settings` itself."""
    default: object = None
    """The value Triton takes when an inert or an absent option is not given."""
    presence: Presence = Presence.SERVED
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Options that the help shows together."""

    title: str
    options: tuple[Option, ...]


def default_of(option: Option) -> object:
    """Return what holds when an option is not given."""
    if option.presence is not Presence.SERVED or not option.place:
        return option.default
    return reduce(getattr, option.place.split("."), Settings())


def inert(name: str, kind: Kind, default: object = None) -> Option:
    """Return an option that is accepted and does nothing."""
    return Option(name, kind, "Accepted and without effect here.", default=default, presence=Presence.INERT)


def absent(name: str, kind: Kind, default: object = None) -> Option:
    """Return an option that is refused unless it asks for its default."""
    return Option(name, kind, "Not available yet.", default=default, presence=Presence.ABSENT)


def deprecated(name: str, kind: Kind, setting: str) -> Option:
    """Return an option that says again what a setting of --trace-config does."""
    return Option(name, kind, f"Deprecated spelling of --trace-config {setting}=.", repeatable=True)
