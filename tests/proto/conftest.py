"""What the tests of the wire share: how hard hypothesis tries, and models described in a line."""

import os
from collections.abc import Callable

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


@pytest.fixture(scope="session")
def configured() -> Callable[[str], ModelConfig]:
    """Return a function that reads a configuration as it stands: nothing is completed or validated."""

    def read(text: str) -> ModelConfig:
        return ModelConfig.from_message(text_format.Parse(text, pb.ModelConfig()))

    return read
