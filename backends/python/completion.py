"""What a model's `auto_complete_config` makes of a configuration; JSON goes in and comes out."""

import json
from typing import Any

from ...proto.errors import InferError, internal
from .api.auto_complete import ModelConfig
from .exception_text import exception_text
from .model_code import ModelCode


def complete(code: ModelCode, config: str, model_name: str) -> str | None:
    """Return the configuration that the model proposes, None if it has no say; raises InferError."""
    try:
        ask: Any = getattr(code.model_class(), "auto_complete_config", None)
        if ask is None:
            return None
        proposed = ask(ModelConfig(config))
        if isinstance(proposed, ModelConfig):
            return json.dumps(proposed.as_dict())
    except InferError:
        raise
    except BaseException as error:
        raise internal(exception_text(error)) from error
    raise internal(
        f"auto_complete_config function in model '{model_name}' must return a valid pb.ModelConfig object."
    )
