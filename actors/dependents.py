"""Who is made of whom: the graph of ensembles and their models, as plain functions.

A graph maps each ensemble to its steps; whoever is not in it has none.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeVar

from ..proto.model_id import ModelId

Model = TypeVar("Model", bound=Hashable)
Steps = Mapping[Model, Sequence[Model]]


def find_circle(steps: Steps[Model], start: Model) -> tuple[Model, ...]:
    """Return how an ensemble leads to itself or to another that does, its first name last too, or nothing."""
    harmless: set[Model] = set()

    def walk(path: tuple[Model, ...]) -> tuple[Model, ...]:
        for step in steps.get(path[-1], ()):
            if step in path:
                return (*path, step)
            if step not in harmless and (circle := walk((*path, step))):
                return circle
        harmless.add(path[-1])
        return ()

    return walk((start,))


def ensembles_over(steps: Steps[Model], model: Model) -> list[Model]:
    """Return the ensembles that have a model as a step."""
    return [ensemble for ensemble, below in steps.items() if model in below]


def resolve(names: Iterable[str], namespace: str, there: AbstractSet[ModelId]) -> dict[str, ModelId]:
    """Return whom an ensemble means by names: a model of its own repository, else the only one so called.

    A name that nobody has, or several models of other repositories, is left out.
    """
    meant: dict[str, ModelId] = {}
    for name in names:
        namesakes = [model for model in there if model.name == name]
        own = ModelId(name, namespace)
        if own in there:
            meant[name] = own
        elif len(namesakes) == 1:
            meant[name] = namesakes[0]
    return meant
