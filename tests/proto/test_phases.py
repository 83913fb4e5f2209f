"""The life cycles: impossible steps raise, and the documentation is drawn from the tables."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import pytest

from deuteron.proto.phases import (
    INSTANCE,
    VERSION,
    ImpossibleTransitionError,
    InstanceEvent,
    InstancePhase,
    VersionEvent,
    VersionPhase,
    advance,
    diagram,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycles.md"


def test_a_step_the_table_knows_leads_to_its_state() -> None:
    """Loading a version that was loaded makes it READY."""
    assert advance(VERSION, VersionPhase.LOADING, VersionEvent.LOADED) is VersionPhase.READY


def test_a_step_the_table_does_not_know_raises_with_its_story() -> None:
    """An instance that is closed cannot break."""
    with pytest.raises(ImpossibleTransitionError, match="'broke' cannot happen in state 'closed'"):
        advance(INSTANCE, InstancePhase.CLOSED, InstanceEvent.BROKE)


@pytest.mark.parametrize("table", [VERSION, INSTANCE])
def test_the_diagrams_in_the_documentation_are_those_of_the_tables(
    table: Mapping[tuple[Enum, Enum], Enum],
) -> None:
    """Whoever changes a table redraws its diagram."""
    assert diagram(table) in DOCUMENT.read_text()


@pytest.mark.parametrize("table", [VERSION, INSTANCE])
def test_every_state_can_be_reached(table: Mapping[tuple[Enum, Enum], Enum]) -> None:
    """No table has a state that nothing leads to, but for the first."""
    states = {state for state, _ in table}
    assert states - set(table.values()) <= {next(iter(table))[0]}
