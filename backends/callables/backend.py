"""The backend `callable`: models that are functions of this process."""

from ...proto.config import ModelConfig
from ...proto.errors import invalid
from ...proto.schema.model_config_pb2 import ModelConfig as ConfigMessage
from ..api import ModelFiles, Seat, Settings
from ..bindings import Binding, Bindings
from ..device import Device
from .context import Context
from .engine import CallableEngine


class CallableBackend:
    """Makes models of what is bound."""

    def __init__(self, settings: Settings, bindings: Bindings) -> None:
        """Take what is bound, now and later; no setting means anything here."""
        self._bindings = bindings

    def complete(self, config: ConfigMessage, files: ModelFiles) -> ConfigMessage:
        """Return the configuration as it is: whoever bound the model said it all."""
        return config

    def load(self, config: ModelConfig, files: ModelFiles, device: Device) -> "CallablePlan":
        """Return the plan of what the model's name is bound to; raises InferError where that is nothing."""
        binding = self._bindings.find(config.name)
        if binding is None:
            raise invalid(
                f"model '{config.name}' has backend 'callable', and this process binds no such model"
            )
        return CallablePlan(binding, config)


class CallablePlan:
    """What the instances of one model share."""

    def __init__(self, binding: Binding, config: ModelConfig) -> None:
        self._binding = binding
        self._context = Context(config)

    def engine(self, seat: Seat) -> CallableEngine:
        """Make the engine of one instance; instances beyond the functions there are share them in turn."""
        functions = self._binding.functions
        return CallableEngine(functions[seat.index % len(functions)], self._binding, self._context, seat)

    def close(self) -> None:
        """Give back nothing: functions belong to whoever bound them."""
