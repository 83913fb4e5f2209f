"""Ensembles as data flow: which steps run when, and which do not run at all."""

from deuteron.actors.ensemble import Graph, Step, Trip
from deuteron.proto.config import ModelConfig, read_config, validated
from deuteron.proto.datatypes import Datatype
from deuteron.proto.tensor import Tensor

DIAMOND = b"""
platform: "ensemble" input [{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "MAYBE" data_type:
TYPE_INT32 dims: [ 1 ] optional: true }] output [{ name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }, { name:
"SIDE" data_type: TYPE_INT32 dims: [ 1 ] }] ensemble_scheduling { step [ { model_name: "split" model_version:
-1 input_map { key: "x" value: "IN" } output_map { key: "l" value: "left" } output_map { key: "r" value:
"right" } }, { model_name: "north" model_version: -1 input_map { key: "x" value: "left" } output_map { key:
"y" value: "north" } }, { model_name: "south" model_version: -1 input_map { key: "x" value: "right" }
input_map { key: "m" value: "MAYBE" } output_map { key: "y" value: "south" } }, { model_name: "join"
model_version: -1 input_map { key: "a" value: "north" } input_map { key: "b" value: "south" } output_map {
key: "y" value: "OUT" } }, { model_name: "aside" model_version: -1 input_map { key: "x" value: "left" }
output_map { key: "y" value: "SIDE" } } ] }
"""

SPLIT, NORTH, SOUTH, JOIN, ASIDE = range(5)


def diamond() -> ModelConfig:
    """Return an ensemble that splits, goes two ways, joins, and has a side exit."""
    return validated(read_config(DIAMOND, "config.pbtxt", "diamond", None))


def tensor(number: int = 0) -> Tensor:
    """Return a tensor that can be told from others."""
    return Tensor(Datatype.INT32, (1,), number.to_bytes(4, "little"))


def indices(steps: list[Step]) -> list[int]:
    """Return which steps are ready."""
    return [step.index for step in steps]


def test_a_step_is_ready_when_all_its_inputs_are_there() -> None:
    """Fan-out makes two ready at once; the join waits for both."""
    trip = Trip(Graph(diamond()), ())
    assert indices(trip.begin({"IN": tensor()})) == [SPLIT]
    assert indices(trip.absorb(SPLIT, {"l": tensor(1), "r": tensor(2)})) == [NORTH, SOUTH, ASIDE]
    assert indices(trip.absorb(SOUTH, {"y": tensor(3)})) == []
    assert indices(trip.absorb(ASIDE, {"y": tensor(4)})) == []
    assert "OUT" not in trip.outputs()
    (join,) = trip.absorb(NORTH, {"y": tensor(5)})
    assert {name: each.raw for name, each in join.inputs.items()} == {"a": tensor(5).raw, "b": tensor(3).raw}
    assert trip.absorb(JOIN, {"y": tensor(6)}) == []
    assert trip.ended
    assert {name: each.raw for name, each in trip.outputs().items()} == {
        "OUT": tensor(6).raw,
        "SIDE": tensor(4).raw,
    }


def test_steps_that_nobody_asked_for_do_not_run() -> None:
    """With only the side exit asked for, the diamond is left alone, and so are outputs nobody reads."""
    trip = Trip(Graph(diamond()), ("SIDE",))
    (split,) = trip.begin({"IN": tensor()})
    assert split.outputs == ("l",)
    assert indices(trip.absorb(SPLIT, {"l": tensor()})) == [ASIDE]
    trip.absorb(ASIDE, {"y": tensor()})
    assert trip.ended


def test_what_never_comes_is_left_out() -> None:
    """An optional input nobody sent, and an output a step did not make, are absent for their readers."""
    trip = Trip(Graph(diamond()), ("OUT",))
    trip.begin({"IN": tensor()})
    north, south = trip.absorb(SPLIT, {"l": tensor()})
    assert (list(north.inputs), list(south.inputs)) == (["x"], [])
    trip.absorb(NORTH, {"y": tensor()})
    (join,) = trip.absorb(SOUTH, {})
    assert list(join.inputs) == ["a"]


def test_tensors_pass_by_reference() -> None:
    """The tensor a step made is the one the next step gets."""
    trip = Trip(Graph(diamond()), ())
    trip.begin({"IN": tensor()})
    made = tensor(7)
    north, _, aside = trip.absorb(SPLIT, {"l": made, "r": tensor()})
    assert north.inputs["x"] is made is aside.inputs["x"]


def test_the_makers_of_tensors_are_known() -> None:
    """Outputs come from steps, inputs from nobody."""
    graph = Graph(diamond())
    assert graph.writer_of("OUT") == (JOIN, "y")
    assert graph.writer_of("IN") is None
