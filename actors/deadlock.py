"""Deadlocks: models that wait for each other so that none of them can ever be served.

A model that asks another keeps its instance busy until it has the answer. Where all instances of a model are
busy so, and each waits for a model of which the same is true, nobody will ever answer. One instance that
waits for something else, or for nobody, is enough for all to come to an end some time.

This is pure: the largest set of models that fits the description, if there is one.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

Model = TypeVar("Model")
Instance = TypeVar("Instance")


def deadlocked(
    instances: Mapping[Model, AbstractSet[Instance]], waits_for: Mapping[Instance, AbstractSet[Model]]
) -> set[Model]:
    """Return the models whose instances, all busy, wait for each other and for nobody else."""
    stuck = {model for model, busy in instances.items() if busy}
    changed = True
    while changed:
        free = {
            model
            for model in stuck
            if any(stuck.isdisjoint(waits_for.get(instance, ())) for instance in instances[model])
        }
        stuck -= free
        changed = bool(free)
    return stuck
