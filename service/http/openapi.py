"""What HTTP can be asked, for machines: an OpenAPI document made of the routes themselves.

Paths, methods and groups come from the tables that the door works with. Bodies are described where the
protocol has one form for them; what lies behind the JSON of a binary request has none in OpenAPI.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp.web import BaseRequest, StreamResponse

from ...proto.datatypes import Datatype
from ..operations import Operation
from ..policy import GROUP_OF_OPERATION
from .generate import EVENTS
from .responses import JSON, json_body
from .routes import ROUTES, Match, Route, spelt_out

OPENAPI: Final = "3.1.0"

Members = dict[str, Any]


def _object(required: tuple[str, ...] = (), **properties: Members) -> Members:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _array(items: Members) -> Members:
    return {"type": "array", "items": items}


def _known(name: str) -> Members:
    return {"$ref": f"#/components/schemas/{name}"}


_STRING: Final[Members] = {"type": "string"}
_ANY_OBJECT: Final[Members] = {"type": "object", "additionalProperties": True}
_TENSOR: Final[Mapping[str, Members]] = {
    "name": _STRING,
    "shape": _array({"type": "integer"}),
    "datatype": {"type": "string", "enum": [datatype.wire_name for datatype in Datatype]},
    "parameters": _ANY_OBJECT,
    "data": {"type": "array"},
}

SCHEMAS: Final[Mapping[str, Members]] = {
    "Error": _object(("error",), error=_STRING),
    "InputTensor": _object(("name", "shape", "datatype"), **_TENSOR),
    "OutputTensor": _object(("name", "shape", "datatype"), **_TENSOR),
    "RequestedOutput": _object(("name",), name=_STRING, parameters=_ANY_OBJECT),
    "InferRequest": _object(
        ("inputs",),
        id=_STRING,
        parameters=_ANY_OBJECT,
        inputs=_array(_known("InputTensor")),
        outputs=_array(_known("RequestedOutput")),
    ),
    "InferResponse": _object(
        ("model_name", "model_version", "outputs"),
        id=_STRING,
        model_name=_STRING,
        model_version=_STRING,
        parameters=_ANY_OBJECT,
        outputs=_array(_known("OutputTensor")),
    ),
}

_ASKED: Final[Mapping[Operation, Members]] = {
    Operation.INFER: _known("InferRequest"),
    Operation.GENERATE: _ANY_OBJECT,
    Operation.GENERATE_STREAM: _ANY_OBJECT,
    Operation.REPOSITORY_INDEX: _object(ready={"type": "boolean"}),
    Operation.MODEL_LOAD: _object(parameters=_ANY_OBJECT),
    Operation.MODEL_UNLOAD: _object(parameters=_ANY_OBJECT),
    Operation.LOGGING: _ANY_OBJECT,
    Operation.TRACE: _ANY_OBJECT,
    Operation.SHARED_MEMORY_CHANGE: _ANY_OBJECT,
}
"""What the body of a POST holds."""
_ANSWERED: Final[Mapping[Operation, Members]] = {Operation.INFER: _known("InferResponse")}
"""What the body of an answer holds, where that is more than any JSON."""


class Description:
    """The handler that tells the document; it is made once."""

    def __init__(self, version: str) -> None:
        self._body = orjson.dumps(document(version))

    async def tell(self, _request: BaseRequest, _match: Match) -> StreamResponse:
        """Tell the document."""
        return json_body(self._body)


def document(version: str) -> Members:
    """Return the OpenAPI document of a server of this version."""
    paths: dict[str, Members] = {}
    for route in ROUTES:
        for path in spelt_out(route.template):
            paths.setdefault(path, _path(route, path))
    return {
        "openapi": OPENAPI,
        "info": {"title": "deuteron", "version": version},
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS)},
    }


def _path(route: Route, path: str) -> Members:
    described: Members = {method.lower(): _method(route, path, method) for method in sorted(route.methods)}
    names = re.findall(r"\{(\w+)\}", path)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _STRING} for name in names
        ]
    return described


def _method(route: Route, path: str, method: str) -> Members:
    operation = route.operation
    kind = EVENTS.partition(";")[0] if operation is Operation.GENERATE_STREAM else JSON
    described: Members = {
        "operationId": f"{method.lower()}{re.sub(r'[^a-z0-9]+', '_', path)}".rstrip("_"),
        "summary": operation.value,
        "tags": [GROUP_OF_OPERATION[operation].value],
        "responses": {
            str(HTTPStatus.OK.value): {
                "description": HTTPStatus.OK.phrase,
                "content": {kind: {"schema": _ANSWERED.get(operation, {})}},
            },
            "default": {"description": "An error", "content": {JSON: {"schema": _known("Error")}}},
        },
    }
    if method == "POST":
        described["requestBody"] = {"content": {JSON: {"schema": _ASKED[operation]}}}
    return described
