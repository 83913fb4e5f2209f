"""Where a model is at home, be it a directory or a function of this process: what loading needs of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from ..proto.config import Draft, ModelConfig
from ..proto.config.platforms import VersionFiles
from ..proto.model_id import ModelId
from .fingerprints import Fingerprints


class ModelHome(Protocol):
    """One model and all that is known of it before its backend is asked; every call may block."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def id(self) -> ModelId:
        """Which model this is."""

    @property
    def path(self) -> Path:
        """Beneath which the files lie that its configuration names."""

    @property
    def on_disk(self) -> bool:
        """Whether files are all that it is, so that other servers may have the very same."""

    def draft(self, preferred: str = "", *, required: bool = False) -> Draft:
        """Return the configuration, of several the preferred; unless required, perhaps an empty one."""

    def first_version_files(self) -> VersionFiles | None:
        """Return what lies in the first version directory, by name; None where there is none."""

    def fingerprints(self) -> Fingerprints:
        """Return which versions there are, and what they and all they depend on are now."""

    def labels(self, config: ModelConfig) -> Mapping[str, tuple[str, ...]]:
        """Return the lines of every output's label file; raises InferError where one cannot be used."""


class RemoteRepository(Protocol):
    """A model repository that is not on this machine."""

    def __str__(self) -> str:
        """Return its address."""

    @property
    def seen(self) -> bool:
        """Whether it was ever looked at."""

    def refresh(self) -> None:
        """Look what there is now; blocks. Raises InferError where that cannot be seen, and then all stays."""

    def models(self, namespace: str) -> Iterable[ModelHome]:
        """Return the models that were there at the last look."""
