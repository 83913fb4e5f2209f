"""Loading and unloading over HTTP."""

import asyncio
import binascii
from collections.abc import Mapping
from typing import Any

from aiohttp.web import BaseRequest, StreamResponse

from ...proto.errors import Fault, InferError, internal, invalid
from ...proto.kserve_http.members import as_boolean, as_string, object_or_empty
from .. import model_control
from ..doorway import Doorway
from .bodies import read_json
from .responses import empty
from .routes import Match


class ModelControl:
    """The handlers that change what is loaded."""

    def __init__(self, doorway: Doorway, max_input_size: int) -> None:
        self._doorway = doorway
        self._max_input_size = max_input_size

    async def load(self, request: BaseRequest, match: Match) -> StreamResponse:
        """Load a model, or load it anew."""
        parameters = await asyncio.to_thread(_decoded, await self._parameters(request, match))
        await model_control.load(self._doorway, match.model, parameters)
        return empty()

    async def unload(self, request: BaseRequest, match: Match) -> StreamResponse:
        """Begin to unload a model."""
        parameters = await self._parameters(request, match)
        task = "Unable to parse 'unload_dependents'"
        dependents = as_boolean(parameters.get("unload_dependents", False), task)
        await model_control.unload(self._doorway, match.model, dependents=dependents)
        return empty()

    async def _parameters(self, request: BaseRequest, match: Match) -> dict[str, Any]:
        if match.repository:
            raise InferError(Fault.UNSUPPORTED, "'repository_name' specification is not supported")
        members = await read_json(request, self._max_input_size)
        return object_or_empty(members.get("parameters"))


def _decoded(parameters: Mapping[str, Any]) -> dict[str, str | bytes]:
    """Return load parameters with their files as bytes; blocks on large ones. Raises InferError."""
    decoded: dict[str, str | bytes] = {}
    for name, value in parameters.items():
        text = as_string(value, f"Unable to parse '{name}'")
        if not model_control.is_load_parameter(name):
            raise internal("unexpected error on creating Triton parameter")
        decoded[name] = text if name == model_control.CONFIG_PARAMETER else _base64(name, text)
    return decoded


def _base64(name: str, text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise invalid(f"load parameter '{name}' is not base64: {error}") from None
