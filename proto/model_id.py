"""Which model is meant: its name, and the repository it stands in where names are told apart by that."""

from typing import NamedTuple


class ModelId(NamedTuple):
    """A model as the house knows it; clients know its name alone."""

    name: str
    namespace: str = ""
    """The path of its repository; empty where names are not told apart, and for files that a load brings."""

    def __str__(self) -> str:
        return f"{self.namespace}::{self.name}" if self.namespace else self.name
