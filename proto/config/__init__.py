"""Model configurations: read, normalised, validated, frozen, and written as JSON."""

from .complaint import Complaint, ConfigError
from .model_config import ModelConfig

__all__ = ["Complaint", "ConfigError", "ModelConfig"]
