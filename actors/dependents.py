"""Who is made of whom: the graph of ensembles and their models, as plain functions over names.

A graph maps the name of each ensemble to the names of its steps; a name that is not in it has none.
"""

from collections.abc import Mapping, Sequence

Steps = Mapping[str, Sequence[str]]


def find_circle(steps: Steps, start: str) -> tuple[str, ...]:
    """Return how an ensemble leads to itself or to another that does, its first name last too, or nothing."""
    harmless: set[str] = set()

    def walk(path: tuple[str, ...]) -> tuple[str, ...]:
        for step in steps.get(path[-1], ()):
            if step in path:
                return (*path, step)
            if step not in harmless and (circle := walk((*path, step))):
                return circle
        harmless.add(path[-1])
        return ()

    return walk((start,))


def ensembles_over(steps: Steps, name: str) -> list[str]:
    """Return the ensembles that have a model as a step, by name."""
    return [ensemble for ensemble in sorted(steps) if name in steps[ensemble]]
