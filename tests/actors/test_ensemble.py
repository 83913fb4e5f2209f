"""Ensembles as data flow: which steps run when, and which do not run at all."""

import pytest

from deuteron.actors.ensemble import Step, Trip
from deuteron.actors.graph import Graph
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import InferError
from deuteron.proto.message import Correlation
from deuteron.proto.tensor import Tensor

from .graphs import graph_of, number_of, tensor

DIAMOND = """
split: IN -> left right
north: left -> north
south: right? MAYBE? -> south
join: north? south? -> OUT
aside: left -> SIDE
"""

SPLIT, NORTH, SOUTH, JOIN, ASIDE = range(5)


def diamond() -> Graph:
    """Return an ensemble that splits, goes two ways, joins, and has a side exit."""
    return graph_of(DIAMOND, "IN MAYBE?", "OUT SIDE")


def numbers(trip: Trip) -> list[dict[str, int | None]]:
    """Return the numbers in the answers whose turn has come."""
    return [number_of(answer) for answer in trip.take()[0]]


def done(trip: Trip, step: Step, **outputs: int) -> list[Step]:
    """Let a step that answers once answer."""
    steps = trip.absorb(step, {name: tensor(number) for name, number in outputs.items()})
    trip.end(step)
    return steps


def test_a_step_is_ready_when_all_its_inputs_are_there() -> None:
    """Fan-out makes two ready at once; the join waits for both."""
    trip = Trip(diamond(), ())
    (split,) = trip.begin({"IN": tensor()})
    north, south, aside = done(trip, split, left=1, right=2)
    assert [north.index, south.index, aside.index] == [NORTH, SOUTH, ASIDE]
    assert done(trip, south, south=3) == []
    assert done(trip, aside, SIDE=4) == []
    assert numbers(trip) == []
    (join,) = done(trip, north, north=5)
    assert {name: each.raw for name, each in join.inputs.items()} == {
        "north": tensor(5).raw,
        "south": tensor(3).raw,
    }
    assert done(trip, join, OUT=6) == []
    assert not trip.running
    assert numbers(trip) == [{"OUT": 6, "SIDE": 4}]


def test_steps_that_nobody_asked_for_do_not_run() -> None:
    """With only the side exit asked for, the diamond is left alone, and so are outputs nobody reads."""
    trip = Trip(diamond(), ("SIDE",))
    (split,) = trip.begin({"IN": tensor()})
    assert split.outputs == ("left",)
    (aside,) = done(trip, split, left=1)
    assert aside.index == ASIDE
    done(trip, aside, SIDE=2)
    assert numbers(trip) == [{"SIDE": 2}]


def test_what_never_comes_is_left_out() -> None:
    """An optional input nobody sent, and an output a step did not make, are absent for their readers."""
    trip = Trip(diamond(), ("OUT",))
    (split,) = trip.begin({"IN": tensor()})
    north, south = done(trip, split, left=1)
    assert (list(north.inputs), list(south.inputs)) == (["left"], [])
    done(trip, north, north=1)
    (join,) = done(trip, south)
    assert list(join.inputs) == ["north"]
    done(trip, join)
    assert numbers(trip) == [{"OUT": None}]


def test_tensors_pass_by_reference() -> None:
    """The tensor a step made is the one the next step gets."""
    trip = Trip(diamond(), ())
    (split,) = trip.begin({"IN": tensor()})
    made = tensor(7)
    north, _, aside = trip.absorb(split, {"left": made, "right": tensor()})
    assert north.inputs["left"] is made is aside.inputs["left"]


def test_the_place_in_a_sequence_that_a_step_told_goes_on_with_its_tensors() -> None:
    """Of two that are told the first counts, and the ensemble's own inputs tell none."""
    trip = Trip(diamond(), ())
    (split,) = trip.begin({"IN": tensor()})
    assert split.correlation is None
    outputs = {"left": tensor(), "right": tensor()}
    north, south, _ = trip.absorb(split, outputs, Correlation(7, end=True))
    assert north.correlation == Correlation(7, end=True)
    trip.absorb(south, {"south": tensor()}, Correlation(8))
    (join,) = trip.absorb(north, {"north": tensor()}, Correlation(9))
    assert join.correlation == Correlation(9)


def test_the_makers_of_tensors_are_known() -> None:
    """Outputs come from steps, inputs from nobody."""
    assert diamond().writers_of("OUT") == [(JOIN, "OUT")]
    assert diamond().writers_of("IN") == ()


# --- steps that answer any number of times ---


def test_every_answer_of_a_decoupled_step_goes_its_own_way() -> None:
    """Each is the beginning of an answer of the ensemble, and they keep their order whoever is faster."""
    trip = Trip(graph_of("many: IN -> t\nafter: t -> OUT", "IN", "OUT"), ())
    (many,) = trip.begin({"IN": tensor()})
    (first,) = trip.absorb(many, {"t": tensor(1)})
    (second,) = trip.absorb(many, {"t": tensor(2)})
    done(trip, second, OUT=20)
    assert numbers(trip) == []
    done(trip, first, OUT=10)
    assert numbers(trip) == [{"OUT": 10}, {"OUT": 20}]
    assert trip.running
    trip.end(many)
    assert not trip.running
    assert numbers(trip) == []


def test_branches_of_one_answer_find_each_other_again() -> None:
    """Both answers go two ways; what is joined is what belongs together."""
    trip = Trip(graph_of("many: IN -> l r\nleft: l -> a\nright: r -> b\njoin: a b -> OUT", "IN", "OUT"), ())
    (many,) = trip.begin({"IN": tensor()})
    left, right = trip.absorb(many, {"l": tensor(1), "r": tensor(1)})
    other_left, other_right = trip.absorb(many, {"l": tensor(2), "r": tensor(2)})
    assert done(trip, left, a=1) == []
    assert done(trip, other_right, b=2) == []
    (join,) = done(trip, right, b=1)
    assert {each.raw for each in join.inputs.values()} == {tensor(1).raw}
    (other,) = done(trip, other_left, a=2)
    assert {each.raw for each in other.inputs.values()} == {tensor(2).raw}


def test_a_decoupled_step_behind_another_keeps_the_order_of_both() -> None:
    """All that comes of the first answer is told before what comes of the second, which may be nothing."""
    trip = Trip(graph_of("many1: IN -> t\nmany2: t -> OUT", "IN", "OUT"), ())
    (many,) = trip.begin({"IN": tensor()})
    inner = [trip.absorb(many, {"t": tensor()})[0] for _ in range(3)]
    trip.end(many)
    trip.absorb(inner[2], {"OUT": tensor(5)})
    trip.absorb(inner[0], {"OUT": tensor(1)})
    assert numbers(trip) == [{"OUT": 1}]
    trip.absorb(inner[0], {"OUT": tensor(2)})
    trip.end(inner[1])
    assert numbers(trip) == [{"OUT": 2}]
    trip.end(inner[0])
    assert numbers(trip) == [{"OUT": 5}]
    trip.end(inner[2])
    assert not trip.running


def test_an_answer_is_used_up_when_all_that_came_of_it_was_told() -> None:
    """Then, and not before, its producer may send another in its place."""
    trip = Trip(graph_of("many1: IN -> t\nmany2: t -> OUT", "IN", "OUT"), ())
    (many,) = trip.begin({"IN": tensor()})
    (inner,) = trip.absorb(many, {"t": tensor()})
    trip.absorb(inner, {"OUT": tensor(1)})
    assert trip.take()[1] == [inner]
    trip.end(inner)
    assert trip.take()[1] == [many]


# --- steps under a condition ---

BRANCHES = """
route: IN -> way
cheap: IN -> OUT when way == 0
dear: IN -> deep when way == 1
deeper: deep -> OUT when way == 1
"""


def test_a_branch_that_is_not_taken_does_not_run() -> None:
    """One of two alternatives makes the output; the other costs nothing, with all that is behind it."""
    for way, path in (0, ["cheap"]), (1, ["dear", "deeper"]):
        graph = graph_of(BRANCHES, "IN", "OUT")
        trip = Trip(graph, ())
        (step,) = trip.begin({"IN": tensor()})
        ready = done(trip, step, way=way)
        run = []
        while ready:
            (step,) = ready
            run.append(graph.steps[step.index].model_name)
            ready = trip.absorb(step, {name: tensor(9) for name in step.outputs})
            trip.end(step)
        assert run == path
        assert numbers(trip) == [{"OUT": 9}]
        assert not trip.running


def test_where_no_alternative_is_taken_the_output_is_left_out() -> None:
    trip = Trip(graph_of(BRANCHES, "IN", "OUT"), ())
    (step,) = trip.begin({"IN": tensor()})
    assert done(trip, step, way=2) == []
    assert numbers(trip) == [{"OUT": None}]


def test_a_reader_of_a_skipped_tensor_runs_only_if_it_can_do_without() -> None:
    trip = Trip(
        graph_of("a: IN -> t when IN > 5\nneeds: t IN -> X\nlikes: t? IN -> Y", "IN", "X Y"),
        (),
    )
    (likes,) = trip.begin({"IN": tensor(3)})
    assert list(likes.inputs) == ["IN"]
    done(trip, likes, Y=1)
    assert numbers(trip) == [{"X": None, "Y": 1}]


def test_a_tensor_that_is_absent_satisfies_no_condition() -> None:
    trip = Trip(graph_of("a: IN -> OUT when FLAG? != 1".replace("FLAG?", "FLAG"), "IN FLAG?", "OUT"), ())
    assert trip.begin({"IN": tensor()}) == []
    assert numbers(trip) == [{"OUT": None}]


def test_a_decoupled_step_that_is_not_taken_answers_nothing() -> None:
    trip = Trip(graph_of("many: IN -> t when IN == 1\nafter: t -> OUT", "IN", "OUT"), ())
    assert trip.begin({"IN": tensor(0)}) == []
    assert (numbers(trip), trip.running) == ([], 0)


def test_a_condition_on_several_elements_cannot_be_decided() -> None:
    trip = Trip(graph_of("a: IN -> OUT when IN == 1", "IN", "OUT"), ())
    with pytest.raises(InferError, match=r"needs a single element, and tensor 'IN' has shape \[2\]"):
        trip.begin({"IN": Tensor(Datatype.INT32, (2,), bytes(8))})
