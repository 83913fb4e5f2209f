"""Engines share the cores there are: all instances of a model together take no more."""

import pytest

from deuteron.backends import threads
from deuteron.backends.device import HOST, Device

from .conftest import Rig


@pytest.mark.parametrize(
    ("cores", "instances", "pool", "team"),
    [(8, 1, 8, 8), (8, 2, 7, 4), (8, 3, 6, 2), (8, 16, 1, 1), (1, 1, 1, 1)],
)
def test_more_instances_leave_fewer_threads_for_each(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, cores: int, instances: int, pool: int, team: int
) -> None:
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    config = rig.config(f"instance_group {{ kind: KIND_CPU count: {instances} }}")
    assert threads.pool_size(config, HOST) == pool
    assert threads.team_size(config, HOST) == team


def test_only_instances_on_the_same_kind_of_device_share_cores(rig: Rig) -> None:
    config = rig.config(
        "instance_group { kind: KIND_CPU count: 2 } instance_group { kind: KIND_GPU count: 3 }"
        "instance_group { kind: KIND_CPU count: 1 }"
    )
    assert threads.instances_on(config, HOST) == 3
    assert threads.instances_on(config, Device("GPU")) == 3
    assert threads.instances_on(config, Device("MODEL")) == 1
