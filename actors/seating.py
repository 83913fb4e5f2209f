"""Seating: which instances a configuration asks for, and which of those that are there may stay.

Instances are alike when all that their groups say of them is, but for the name and the count. So a
configuration that only wants more or fewer of a kind, or calls them by other names, costs no instance that it
does not want fewer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..backends.device import HOST, Device
from ..proto.config import InstanceKind, ModelConfig
from ..proto.errors import invalid
from .gate import claim_of
from .schedule import InstanceId
from .sharing import Claim

DEVICE_OF_KIND: Final = {
    InstanceKind.CPU: HOST,
    InstanceKind.MODEL: Device("MODEL"),
}


NO_CLAIM: Final = Claim({})


@dataclass(frozen=True, slots=True)
class Place:
    """What an instance is asked for."""

    name: str
    device: Device
    claim: Claim = NO_CLAIM
    """What each of its executions needs."""
    nature: bytes = b""
    """All that its group says of it, but for its name."""

    def is_like(self, other: "Place") -> bool:
        """Whether an instance for one would do for the other."""
        return self.nature == other.nature


@dataclass(frozen=True, slots=True)
class Rearrangement:
    """What becomes of the instances that are there, and which are to come."""

    kept: Mapping[InstanceId, Place]
    """Those that stay, each with its place from now on."""
    left: Sequence[InstanceId]
    added: Sequence[Place]


def places_of(config: ModelConfig) -> list[Place]:
    """Return a place for each instance of a model; raises InferError for a device that is not there."""
    places: list[Place] = []
    for group, message in zip(config.instance_groups, config.message.instance_group, strict=True):
        if group.kind not in DEVICE_OF_KIND:
            raise invalid(
                f"instance group {group.name} of model {config.name} has kind KIND_GPU "
                "but server does not support GPUs"
            )
        said = type(message)()
        said.CopyFrom(message)
        said.ClearField("name")
        said.ClearField("count")
        nature = said.SerializeToString(deterministic=True)
        device, claim = DEVICE_OF_KIND[group.kind], claim_of(group.rate_limit)
        places += [Place(f"{group.name}_{number}", device, claim, nature) for number in range(group.count)]
    return places


def plan_device(config: ModelConfig) -> Device:
    """Return the device on which what all instances share is made."""
    kinds = {group.kind for group in config.instance_groups}
    return DEVICE_OF_KIND[InstanceKind.MODEL if kinds == {InstanceKind.MODEL} else InstanceKind.CPU]


def rearrange(there: Mapping[InstanceId, Place], wanted: Sequence[Place]) -> Rearrangement:
    """Let as many stay as can: under their own name where that is wanted, else under that of one alike."""
    kept: dict[InstanceId, Place] = {}
    open_places = list(wanted)
    for same_name in (True, False):
        for instance, place in there.items():
            found = next(
                (each for each in open_places if each.is_like(place) and (each == place or not same_name)),
                None,
            )
            if instance not in kept and found is not None:
                kept[instance] = found
                open_places.remove(found)
    left = [instance for instance in there if instance not in kept]
    return Rearrangement(kept, left, open_places)
