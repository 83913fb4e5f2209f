"""What the tests of the wire share: how hard hypothesis tries, and models described in a line."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, settings

from deuteron.proto.config import ModelConfig
from deuteron.proto.schema import model_config_pb2 as pb

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("quick", max_examples=60, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("ci", max_examples=200, derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("deep", max_examples=10_000, **_COMMON)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "quick"))


@dataclass(frozen=True)
class Version:
    """A model version, as far as a codec looks at it."""

    config: ModelConfig
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: int = 3

    @property
    def name(self) -> str:
        return self.config.name

    def __repr__(self) -> str:
        return f"Version({self.name!r})"  # a whole configuration in each failure is too much


@pytest.fixture(scope="session")
def configured() -> Callable[[str], ModelConfig]:
    """Return a function that reads a configuration as it stands: nothing is completed or validated."""

    def read(text: str) -> ModelConfig:
        return ModelConfig.from_message(text_format.Parse(text, pb.ModelConfig()))

    return read


@pytest.fixture(scope="session")
def target(configured: Callable[[str], ModelConfig]) -> Version:
    """Return version 3 of a model `m` that batches, with an output of which the classes have names."""
    config = configured(
        """
        name: "m" max_batch_size: 8
        input { name: "A" data_type: TYPE_FP32 dims: 2 }
        input { name: "B" data_type: TYPE_STRING dims: -1 }
        output { name: "OUT" data_type: TYPE_FP32 dims: 3 label_filename: "labels.txt" }
        output { name: "TEXT" data_type: TYPE_STRING dims: -1 }
        """
    )
    return Version(config, {"OUT": ("zero", "", "two")})


@pytest.fixture(scope="session")
def targeted(configured: Callable[[str], ModelConfig]) -> Callable[[str], Version]:
    """Return a function that makes a model version of a configuration, as it stands."""
    return lambda text: Version(configured(text))
