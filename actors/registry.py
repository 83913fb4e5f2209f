"""The registry: the record of every model, and how a name leads to one of them.

Clients know models by their names. Where repositories tell names apart several models may have the same; then
the name alone leads to none of them, as long as more than one is wanted. Doors read here; the repository
writes, each model by one at a time.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from ..proto.errors import Fault, InferError
from ..proto.message import LATEST
from ..proto.model_id import ModelId
from .records import ModelRecord
from .servable import Servable


class Registry:
    """What is known of all models."""

    __slots__ = ("_by_name", "_namesakes", "_namespacing", "records")

    def __init__(self, *, namespacing: bool = False) -> None:
        self.records: dict[ModelId, ModelRecord] = {}
        self._by_name: dict[str, ModelRecord] = {}
        """The records that a name alone leads to."""
        self._namesakes: dict[str, set[ModelId]] = {}
        """All there are of each name."""
        self._namespacing = namespacing

    def find(self, name: str, version: int = LATEST) -> Servable:
        """Return a version that serves; raises InferError in Triton's words where there is none."""
        record = self._by_name.get(name)
        if record is None:
            raise self._unknown(name)
        return _version_of(name, record, version)

    def find_exactly(self, model: ModelId, version: int = LATEST) -> Servable:
        """Return a version of just this model; raises InferError as `find` does."""
        record = self.records.get(model)
        if record is None:
            raise self._unknown(model.name)
        return _version_of(str(model), record, version)

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the READY versions of a model, ascending."""
        record = self._by_name.get(name)
        return tuple(record.serving) if record is not None else ()

    def serves(self, model: ModelId) -> bool:
        """Whether any version of a model is READY."""
        record = self.records.get(model)
        return record is not None and bool(record.serving)

    def served(self) -> Iterator[Servable]:
        """Yield every READY version, by name and version."""
        for _, servable in self.identified():
            yield servable

    def identified(self) -> Iterator[tuple[ModelId, Servable]]:
        """Yield every READY version with the model it is one of, by name and version."""
        for model in sorted(self.records):
            for servable in self.records[model].serving.values():
                yield model, servable

    def wanted(self, name: str) -> list[ModelId]:
        """Return the models of a name that somebody wants, by repository."""
        return sorted(each for each in self._namesakes.get(name, ()) if self.records[each].is_wanted)

    @asynccontextmanager
    async def changing(self, model: ModelId) -> AsyncIterator[ModelRecord]:
        """Have the record of a model to oneself; one that has nothing to tell afterwards is forgotten."""
        record = self.records.setdefault(model, ModelRecord())
        self._namesakes.setdefault(model.name, set()).add(model)
        record.visitors += 1
        self._settle(model.name)
        try:
            async with record.lock:
                yield record
        finally:
            record.visitors -= 1
            if record.blank:
                del self.records[model]
                self._namesakes[model.name].discard(model)
            self._settle(model.name)

    def _settle(self, name: str) -> None:
        """Let a name lead to the one model that is wanted, or to the only one there is."""
        meant = self.wanted(name) or list(self._namesakes[name])
        if len(meant) == 1:
            self._by_name[name] = self.records[meant[0]]
            return
        self._by_name.pop(name, None)
        if not meant:
            del self._namesakes[name]

    def _unknown(self, name: str) -> InferError:
        wanted = len(self.wanted(name))
        if wanted > 1:
            text = f"There are {wanted} identifiers of model '{name}' in global map, model namespace must be "
            return InferError(Fault.INVALID_ARG, f"{text}provided to resolve ambiguity.")
        fault = Fault.INVALID_ARG if self._namespacing else Fault.NOT_FOUND
        return InferError(fault, f"Request for unknown model: '{name}' is not found")


def _version_of(name: str, record: ModelRecord, version: int) -> Servable:
    if version == LATEST and record.latest is not None:
        return record.latest
    servable = record.serving.get(version)
    if servable is not None:
        return servable
    fault = Fault.NOT_FOUND
    if not record.versions:
        what = "is not found"
    elif version == LATEST:
        what = "has no available versions"
    elif version not in record.versions:
        what = f"version {version} is not found"
    else:
        fault, what = Fault.UNAVAILABLE, f"version {version} is not at ready state"
    raise InferError(fault, f"Request for unknown model: '{name}' {what}")
