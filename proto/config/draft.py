"""A configuration on its way from a file to a model.

    read_config or read_json_config → Draft → completed (by its backend) → validated → ModelConfig

A draft is normalised and keeps the rules that can be kept before the backend has completed it. Whatever is
wrong is told in one ConfigError with every complaint, each with its place in the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..schema import model_config_pb2 as pb
from .auto_complete import merge_completed
from .complaint import Complaint, ConfigError
from .json_form import from_json
from .model_config import ModelConfig
from .normalise import PREFERRED_GROUPS, Gpus, normalise, normalise_instance_groups
from .places import Places
from .platforms import VersionFiles, fill_backend
from .text import parse_text
from .validate import foresee, validate, validate_declared


@dataclass(frozen=True, slots=True)
class Draft:
    """A normalised configuration that may not be complete yet, and where its fields stand."""

    message: pb.ModelConfig
    """Nobody writes to it."""
    places: Places


def read_config(text: bytes, file: str, directory_name: str, version: VersionFiles | None) -> Draft:
    """Return the draft of a `config.pbtxt`, which is empty where a model has none.

    `file` is only a name, for complaints. `version` says what lies in the first version directory, None if
    there is none. Raises ConfigError.
    """
    message, places = parse_text(text, file)
    return _draft(message, places, directory_name, version)


def read_json_config(
    text: bytes | str, file: str, directory_name: str, version: VersionFiles | None
) -> Draft:
    """Return the draft of a configuration that a load request brought along; else like `read_config`."""
    return _draft(from_json(text, file), Places(file), directory_name, version)


def _draft(
    message: pb.ModelConfig, places: Places, directory_name: str, version: VersionFiles | None
) -> Draft:
    try:
        normal = normalise(fill_backend(message, directory_name, version))
    except ConfigError as error:
        raise places.located(error.complaints) from None
    complaints = validate_declared(normal)
    if normal.name != directory_name:
        wrong_name = (
            f"unexpected directory name '{directory_name}' for model '{normal.name}', "
            f"directory name must equal model name"
        )
        complaints.append(Complaint(wrong_name, "name"))
    if complaints:
        raise places.located([*complaints, *foresee(normal)])
    return Draft(normal, places)


def completed(draft: Draft, proposed: pb.ModelConfig) -> Draft:
    """Return the draft with what its backend proposes; raises InferError when that contradicts it."""
    return replace(draft, message=normalise(merge_completed(draft.message, proposed)))


def validated(
    draft: Draft,
    gpus: Gpus | None = None,
    preferred: Sequence[pb.ModelInstanceGroup] = PREFERRED_GROUPS,
) -> ModelConfig:
    """Return the configuration to serve with; raises ConfigError with everything that is wrong.

    `gpus` is None on a server that runs on CPUs only; `preferred` are the instance groups that the backend
    would like, the best first.
    """
    message = normalise_instance_groups(draft.message, gpus, preferred)
    complaints = validate(message, gpus)
    if complaints:
        raise draft.places.located(complaints)
    return ModelConfig.from_message(message)
