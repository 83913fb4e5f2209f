"""A version that somebody holds does not drain under their hands."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.leases import Leases
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.proto.message import Request
from deuteron.proto.phases import VersionPhase
from deuteron.proto.tensor import Tensor

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]

SLOW = """
backend: "identity"
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] }]
parameters { key: "execute_delay_ms" value { string_value: "50" } }
"""

SLOW_TWICE = """
platform: "ensemble"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 4 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] }]
ensemble_scheduling { step [
  { model_name: "slow" model_version: -1
    input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "between" } },
  { model_name: "slow" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


@pytest.mark.parametrize("held", [0, 1, 3])
def test_a_drain_begins_once_when_the_last_lease_is_given_back(held: int) -> None:
    begun: list[bool] = []
    leases = Leases(lambda: begun.append(True))
    for _ in range(held):
        leases.take()
    leases.drain()
    assert len(begun) == (held == 0)
    for _ in range(held):
        leases.give_back()
    assert begun == [True]


def test_leases_that_come_and_go_drain_nothing() -> None:
    begun: list[bool] = []
    leases = Leases(lambda: begun.append(True))
    leases.take()
    leases.give_back()
    assert not begun


async def test_an_ensemble_on_its_way_is_answered_by_the_model_that_was_unloaded_meanwhile(
    write_model: Write, open_repository: Open
) -> None:
    write_model("slow", SLOW)
    write_model("slow_twice", SLOW_TWICE)
    repository = await open_repository()
    row = np.arange(4, dtype=np.float32)
    reply = OneReply()
    repository.find("slow_twice").infer(Request("slow_twice", inputs={"IN": Tensor.from_numpy(row)}), reply)
    await repository.unload("slow")
    assert repository.versions("slow") == ()
    response = await reply
    np.testing.assert_array_equal(response.outputs["OUT"].numpy(), row)
    await repository.close()
    assert repository.index()[0].state == VersionPhase.UNAVAILABLE.value
