"""`ModelConfig`: what `auto_complete_config` of a model reads and completes.

A model may fill in what its configuration leaves open; whatever contradicts the configuration raises
ValueError, with the texts that Triton's own `triton_python_backend_utils` has.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_SCHEDULERS: Final = ("sequence_batching", "ensemble_scheduling")


@dataclass(frozen=True, slots=True)
class _Kind:
    """Inputs or outputs: how they are called, and which properties a model may give them."""

    name: str
    properties: tuple[str, ...]
    spelt: str
    """The properties as the error message lists them."""


_INPUT: Final = _Kind(
    "input", ("name", "data_type", "dims", "optional"), "'name', 'data_type', 'dims' and 'optional'"
)
_OUTPUT: Final = _Kind("output", ("name", "data_type", "dims"), "'name', 'data_type' and 'dims'")
_REQUIRED: Final = ("name", "data_type", "dims")


class ModelConfig:
    """The configuration of a model that is about to load."""

    def __init__(self, model_config: str) -> None:
        """Read a configuration from its JSON form."""
        self._config: dict[str, Any] = json.loads(model_config)

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration, to be read only."""
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Say how many rows a batch may have; raises ValueError where the configuration wants more."""
        configured = self._config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config function "
                f"for model '{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Have requests batched; raises ValueError where the configuration schedules them otherwise."""
        scheduler = next((each for each in _SCHEDULERS if each in self._config), None)
        if scheduler is not None:
            raise ValueError(
                f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config "
                f"function for model '{self._name}' tries to set scheduling_choice as 'dynamic_batching'"
            )
        self._config.setdefault("dynamic_batching", {})

    def add_input(self, input: Mapping[str, Any]) -> None:  # noqa: A002 - the signature is Triton's
        """Add an input, or complete the one of that name."""
        self._add(_INPUT, input)

    def add_output(self, output: Mapping[str, Any]) -> None:
        """Add an output, or complete the one of that name."""
        self._add(_OUTPUT, output)

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Say whether the model is decoupled; raises ValueError where the configuration says otherwise."""
        if any(name != "decoupled" for name in transaction_policy_dict):
            raise ValueError(
                "model transaction property in auto-complete-config function for model "
                f"'{self._name}' contains property other than 'decoupled'."
            )
        policy = self._config.setdefault("model_transaction_policy", {})
        if "decoupled" not in transaction_policy_dict:
            return
        decoupled = transaction_policy_dict["decoupled"]
        if policy.get("decoupled", decoupled) != decoupled:
            raise ValueError(
                f"trying to change decoupled property in auto-complete-config for model '{self._name}', "
                f"which is already set to '{policy['decoupled']}'."
            )
        policy["decoupled"] = decoupled

    @property
    def _name(self) -> str:
        return str(self._config["name"])

    def _add(self, kind: _Kind, given: Mapping[str, Any]) -> None:
        self._check_properties(kind, given)
        for configured in self._config[kind.name]:
            if configured["name"] == given["name"]:
                self._check_agreement(kind, configured, given)
                configured.update(given)
                return
        self._config[kind.name].append(given)

    def _check_properties(self, kind: _Kind, given: Mapping[str, Any]) -> None:
        where = f"in auto-complete-config function for model '{self._name}'"
        whose = f"{kind.name} '{given['name']}'" if "name" in given else kind.name
        if any(name not in kind.properties for name in given):
            raise ValueError(f"{whose} {where} contains property other than {kind.spelt}.")
        for name in _REQUIRED:
            if name not in given:
                raise ValueError(f"{whose} {where} is missing '{name}' property.")

    def _check_agreement(self, kind: _Kind, configured: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        if configured["data_type"] not in ("TYPE_INVALID", given["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype "
                f"{configured['data_type']} for {kind.name} '{given['name']}', "
                f"model provides {given['data_type']}"
            )
        where = f"model '{self._name}', tensor '{given['name']}': the model expects"
        if configured["dims"] and configured["dims"] != given["dims"]:
            raise ValueError(
                f"{where} dims {given['dims']} but the model configuration specifies dims "
                f"{configured['dims']}"
            )
        optional = given.get("optional")
        if optional is not None and configured.get("optional", optional) != optional:
            raise ValueError(
                f"{where} optional {optional} but the model configuration specifies optional "
                f"{configured['optional']}"
            )
