"""Who may do what: the groups of operations that an operator can close, and the header that opens each.

Both doors ask the same policy, once, when they are built: a door puts a guard before each operation whose
group is closed, and nothing before the others. What stands in neither table belongs to no group; a door that
has such an operation cannot be built, so none can be left unguarded by being forgotten.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from .operations import Operation


class Group(Enum):
    """Operations that are opened and closed together; the values are the words of the command line."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"


GROUP_OF_OPERATION: Final[Mapping[Operation, Group]] = {
    Operation.SERVER_LIVE: Group.HEALTH,
    Operation.SERVER_READY: Group.HEALTH,
    Operation.MODEL_READY: Group.HEALTH,
    Operation.SERVER_METADATA: Group.METADATA,
    Operation.DESCRIPTION: Group.METADATA,
    Operation.MODEL_METADATA: Group.METADATA,
    Operation.MODEL_CONFIG: Group.MODEL_CONFIG,
    Operation.STATISTICS: Group.STATISTICS,
    Operation.INFER: Group.INFERENCE,
    Operation.GENERATE: Group.INFERENCE,
    Operation.GENERATE_STREAM: Group.INFERENCE,
    Operation.REPOSITORY_INDEX: Group.MODEL_REPOSITORY,
    Operation.MODEL_LOAD: Group.MODEL_REPOSITORY,
    Operation.MODEL_UNLOAD: Group.MODEL_REPOSITORY,
    Operation.TRACE: Group.TRACE,
    Operation.LOGGING: Group.LOGGING,
    Operation.SHARED_MEMORY_STATUS: Group.SHARED_MEMORY,
    Operation.SHARED_MEMORY_CHANGE: Group.SHARED_MEMORY,
}
"""The operations of HTTP."""

_INFERENCE_SERVICE: Final[Mapping[str, Group]] = {
    "ServerLive": Group.HEALTH,
    "ServerReady": Group.HEALTH,
    "ModelReady": Group.HEALTH,
    "ServerMetadata": Group.METADATA,
    "ModelMetadata": Group.METADATA,
    "ModelConfig": Group.MODEL_CONFIG,
    "ModelStatistics": Group.STATISTICS,
    "ModelInfer": Group.INFERENCE,
    "ModelStreamInfer": Group.INFERENCE,
    "RepositoryIndex": Group.MODEL_REPOSITORY,
    "RepositoryModelLoad": Group.MODEL_REPOSITORY,
    "RepositoryModelUnload": Group.MODEL_REPOSITORY,
    "TraceSetting": Group.TRACE,
    "LogSettings": Group.LOGGING,
    "SystemSharedMemoryStatus": Group.SHARED_MEMORY,
    "SystemSharedMemoryRegister": Group.SHARED_MEMORY,
    "SystemSharedMemoryUnregister": Group.SHARED_MEMORY,
    "CudaSharedMemoryStatus": Group.SHARED_MEMORY,
    "CudaSharedMemoryRegister": Group.SHARED_MEMORY,
    "CudaSharedMemoryUnregister": Group.SHARED_MEMORY,
}

GROUP_OF_RPC: Final[Mapping[str, Group]] = {
    **{f"inference.GRPCInferenceService/{name}": group for name, group in _INFERENCE_SERVICE.items()},
    "grpc.health.v1.Health/Check": Group.HEALTH,
    "grpc.health.v1.Health/Watch": Group.HEALTH,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Group.METADATA,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Group.METADATA,
}
"""The calls of gRPC, as `service/method`."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What opens a group: a header, and the value it must have."""

    header: str
    value: str

    def is_met_by(self, given: str | bytes | None) -> bool:
        """Return whether a caller who sent this value, or None at all, may pass; all take equally long."""
        if given is None:
            return False
        spelt = given if isinstance(given, bytes) else given.encode(errors="surrogateescape")
        return hmac.compare_digest(spelt, self.value.encode(errors="surrogateescape"))


@dataclass(frozen=True, slots=True)
class Policy:
    """Which groups are closed; those that are not named are open to all."""

    requirements: Mapping[Group, Requirement] = field(default_factory=dict)

    def of_operation(self, operation: Operation) -> Requirement | None:
        """Return what opens an operation of HTTP; raises KeyError for one that is in no group."""
        return self.requirements.get(GROUP_OF_OPERATION[operation])

    def of_rpc(self, service: str, method: str) -> Requirement | None:
        """Return what opens a call of gRPC; raises KeyError for one that is in no group."""
        return self.requirements.get(GROUP_OF_RPC[f"{service}/{method}"])


def policy_of(rules: Iterable[tuple[tuple[Group, ...], str, str]], prefix: str = "") -> Policy:
    """Return the policy that rules make, each of groups, a header and its value.

    Raises ValueError with the name of a group that two rules close.
    """
    requirements: dict[Group, Requirement] = {}
    for groups, header, value in rules:
        for group in groups:
            if group in requirements:
                raise ValueError(group.value)
            requirements[group] = Requirement(prefix + header, value)
    return Policy(requirements)
