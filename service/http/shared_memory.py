"""Registering, forgetting and listing regions of shared memory over HTTP."""

import binascii
from typing import Final

import orjson
from aiohttp.web import BaseRequest, StreamResponse

from ...proto.errors import invalid
from ...proto.kserve_http.members import (
    JsonObject,
    as_string,
    as_unsigned,
    object_or_empty,
    string_member,
)
from ..shared_memory import CUDA_HANDLE_SIZE, SharedMemory
from .bodies import read_json
from .responses import json_body
from .routes import Match

_CUDA: Final = "cuda"
_REGISTER: Final = "register"


class RegionControl:
    """The handlers of the regions that clients share with the server."""

    def __init__(self, memory: SharedMemory, max_input_size: int) -> None:
        self._memory = memory
        self._max_input_size = max_input_size

    async def status(self, _request: BaseRequest, match: Match) -> StreamResponse:
        """List regions, all or the one that is named."""
        if match.memory == _CUDA:
            self._memory.check_cuda_status(match.region)
            return json_body(b"[]")
        regions = [
            {"name": each.name, "key": each.key, "offset": each.offset, "byte_size": each.byte_size}
            for each in self._memory.status(match.region)
        ]
        return json_body(orjson.dumps(regions))

    async def change(self, request: BaseRequest, match: Match) -> StreamResponse:
        """Register a region, or forget one or all."""
        if match.change == _REGISTER:
            await self._register(request, match)
        elif match.memory == _CUDA:
            self._memory.unregister_cuda()
        else:
            self._memory.unregister(match.region)
        return json_body(b"")

    async def _register(self, request: BaseRequest, match: Match) -> None:
        self._memory.check_allowed()
        if not match.region:  # gRPC takes a region without a name, as Triton does
            raise invalid(f"'region name' is necessary to register {match.memory} shared memory region")
        members = await read_json(request, self._max_input_size)
        if match.memory == _CUDA:
            self._memory.register_cuda(match.region, _cuda_handle(members))
            return
        key = as_string(_needed(members, "key"), "")
        offset = as_unsigned(members.get("offset", 0), "")
        byte_size = as_unsigned(_needed(members, "byte_size"), "")
        self._memory.register(match.region, key, offset, byte_size)


def _cuda_handle(members: JsonObject) -> bytes:
    """Return the handle of a region on a GPU; raises InferError where there is none."""
    text = string_member(object_or_empty(_needed(members, "raw_handle")), "b64")
    try:
        handle = binascii.a2b_base64(text)
    except ValueError:
        handle = b""
    if len(handle) != CUDA_HANDLE_SIZE:
        raise invalid("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
    return handle


def _needed(members: JsonObject, name: str) -> object:
    if name not in members:
        raise invalid(f"Shared memory register request has no '{name}' field")
    return members[name]
