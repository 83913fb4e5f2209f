"""Model configurations: read, normalised, validated, frozen, and written as JSON.

A model's configuration goes from `read_config` by way of a `Draft` to a `ModelConfig` (see `draft`). An
ensemble is checked against its models with `check_ensemble_wiring` once they are loaded.
"""

from .complaint import Complaint, ConfigError
from .draft import Draft, completed, read_config, read_json_config, validated
from .ensembles import check_ensemble_wiring, with_transaction_policy
from .identity_rules import check_response_cache
from .json_form import from_json, to_json
from .model_config import (
    AllVersions,
    DynamicBatching,
    Ensemble,
    EnsembleStep,
    InputSpec,
    InstanceGroup,
    InstanceKind,
    Latest,
    ModelConfig,
    OutputSpec,
    QueuePolicy,
    RateLimit,
    Specific,
    TimeoutAction,
    VersionPolicy,
    WarmupData,
    WarmupInput,
    WarmupSample,
)
from .normalise import PREFERRED_GROUPS, Gpus, normalise, normalise_instance_groups
from .platforms import ENSEMBLE, VersionFiles
from .text import parse_text
from .validate import validate

__all__ = [
    "ENSEMBLE",
    "PREFERRED_GROUPS",
    "AllVersions",
    "Complaint",
    "ConfigError",
    "Draft",
    "DynamicBatching",
    "Ensemble",
    "EnsembleStep",
    "Gpus",
    "InputSpec",
    "InstanceGroup",
    "InstanceKind",
    "Latest",
    "ModelConfig",
    "OutputSpec",
    "QueuePolicy",
    "RateLimit",
    "Specific",
    "TimeoutAction",
    "VersionFiles",
    "VersionPolicy",
    "WarmupData",
    "WarmupInput",
    "WarmupSample",
    "check_ensemble_wiring",
    "check_response_cache",
    "completed",
    "from_json",
    "normalise",
    "normalise_instance_groups",
    "parse_text",
    "read_config",
    "read_json_config",
    "to_json",
    "validate",
    "validated",
    "with_transaction_policy",
]
