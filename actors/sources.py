"""Sources: what a model is loaded from, and whether two of them come to the same.

A source is read in one go, files first: what changes meanwhile is then seen as a change at the next load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..backends.fingerprints import Fingerprints
from ..backends.model_home import ModelHome
from ..backends.private_directory import Override, remove_private_directory, write_private_directory
from ..proto.config import ENSEMBLE, Draft
from ..proto.config.model_config import version_policy
from ..proto.errors import internal, invalid
from ..proto.model_id import ModelId
from ..proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from .leases import Leases
from .loading import Loader


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A home, a configuration, and what the files were when it was read."""

    home: ModelHome
    draft: Draft
    fingerprints: Fingerprints
    private: Leases | None = None
    """Who reads the directory, where it came with a request and ends with its last reader."""
    steps: Mapping[str, ModelId] = field(default_factory=dict)
    """The models that an ensemble is made of, by the names it calls them, as far as these mean anybody."""

    @property
    def step_names(self) -> tuple[str, ...]:
        """What an ensemble calls the models it is made of, each once."""
        steps = self.draft.message.ensemble_scheduling.step
        return tuple(dict.fromkeys(step.model_name for step in steps))

    @property
    def is_whole(self) -> bool:
        """Whether all names of its steps mean somebody."""
        return len(self.steps) == len(self.step_names)

    def versions(self) -> tuple[int, ...]:
        """Return the versions to serve, ascending: those present that the version policy selects."""
        return version_policy(self.draft.message.version_policy).select(self.fingerprints.versions)

    def has_same(self, version: int, other: "Source | None") -> bool:
        """Whether a version from here would be the same as one from another source.

        One of an ensemble never is: it has no files, and depends on models that may have changed.
        """
        return (
            other is not None
            and self._has_same_files(version, other)
            and self._says_same(other.draft.message, ("version_policy",))
        )

    def differs_in_instances(self, version: int, other: "Source | None", served: ConfigMessage) -> bool:
        """Whether a version from here would differ from one from another source in its instances alone.

        The one from the other source serves with a configuration, which may say more than that source.
        """
        fields = ("version_policy", "instance_group")
        if other is None or not self._has_same_files(version, other):
            return False
        return self._says_same(other.draft.message, fields) or self._says_same(served, fields)

    def _has_same_files(self, version: int, other: "Source") -> bool:
        return (
            self.draft.message.platform != ENSEMBLE
            and self.home == other.home
            and self.fingerprints.of_version(version) == other.fingerprints.of_version(version)
        )

    def _says_same(self, config: ConfigMessage, but: Sequence[str]) -> bool:
        """Whether a configuration says the same as the one from here, but for some fields."""
        return _without(self.draft.message, but) == _without(config, but)


def read_source(loader: Loader, name: str, home: ModelHome | None, override: Override) -> Source:
    """Return what a model is to be loaded from; blocks. Raises InferError where that cannot be read."""
    if override.files and override.config is None:
        raise invalid("Load parameter 'config' must be specified for model file override")
    private = write_private_directory(name, override.files) if override.files else None
    home = private or home
    assert home is not None, "a model without a home brings its files along"
    try:
        fingerprints = home.fingerprints()
        draft = loader.read(home, override.config)
    except BaseException as error:
        if private is not None:
            remove_private_directory(private)
        if isinstance(error, OSError):
            raise internal(f"files of model '{name}' cannot be read: {error}") from error
        raise
    leases = Leases(lambda: remove_private_directory(private)) if private is not None else None
    return Source(home, draft, fingerprints, leases)


def _without(config: ConfigMessage, fields: Sequence[str]) -> bytes:
    rest = ConfigMessage()
    rest.CopyFrom(config)
    for each in fields:
        rest.ClearField(each)
    return rest.SerializeToString(deterministic=True)
