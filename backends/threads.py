"""How many threads an engine may compute with.

The cores belong to all instances of a model and to the event loop together, so the default never asks for
more threads than there are cores; a model may say otherwise by a parameter of its engine.
"""

import os

from ..proto.config import ModelConfig
from .device import Device


def pool_size(config: ModelConfig, device: Device) -> int:
    """Return the threads of a pool that all instances on a device share, and each joins while it runs."""
    return max(1, available_cores() - instances_on(config, device) + 1)


def team_size(config: ModelConfig, device: Device) -> int:
    """Return the threads of each instance on a device, where each has threads of its own."""
    return max(1, available_cores() // instances_on(config, device))


def instances_on(config: ModelConfig, device: Device) -> int:
    """Count the instances of a model on a device; at least 1."""
    return max(1, sum(group.count for group in config.instance_groups if group.kind.name == device.kind))


def available_cores() -> int:
    """Count the cores this process may run on."""
    return len(os.sched_getaffinity(0))
