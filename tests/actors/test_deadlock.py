"""Deadlocks: who can never be served, and who only waits."""

from deuteron.actors.deadlock import deadlocked


def test_a_model_that_waits_for_itself_with_all_instances_is_stuck() -> None:
    assert deadlocked({"a": {1}}, {1: {"a"}}) == {"a"}
    assert deadlocked({"a": {1, 2}}, {1: {"a"}, 2: {"a"}}) == {"a"}


def test_one_instance_that_waits_for_nobody_is_enough() -> None:
    assert deadlocked({"a": {1, 2}}, {1: {"a"}}) == set()


def test_a_model_with_an_instance_to_spare_is_never_stuck() -> None:
    assert deadlocked({"a": set()}, {1: {"a"}}) == set()


def test_models_are_stuck_together_or_not_at_all() -> None:
    circle = {1: {"b"}, 2: {"c"}, 3: {"a"}}
    assert deadlocked({"a": {1}, "b": {2}, "c": {3}}, circle) == {"a", "b", "c"}
    assert deadlocked({"a": {1}, "b": {2}, "c": {3, 4}}, circle) == set()


def test_whoever_waits_for_the_stuck_is_stuck_and_the_others_are_not() -> None:
    instances = {"a": {1}, "b": {2}, "busy": {3}, "waits": {4}}
    assert deadlocked(instances, {1: {"a"}, 2: {"a"}, 4: {"busy"}}) == {"a", "b"}
