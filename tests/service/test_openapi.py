"""The OpenAPI document says what the routes are, and nothing else."""

import json
import re
from typing import Any

import pytest
from aiohttp import ClientSession
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from deuteron.service.http.front import HttpFront
from deuteron.service.http.openapi import document
from deuteron.service.http.routes import ROUTES, MethodNotAllowedError, match, spelt_out
from deuteron.service.policy import GROUP_OF_OPERATION

METHODS = ("get", "post", "put", "delete", "patch", "head", "options")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document("1.2.3")


def test_the_document_is_what_openapi_asks_for(described: dict[str, Any]) -> None:
    validate(described)
    broken = described | {"paths": {"/v2": {"get": {"parameters": [{"name": "nowhere"}]}}}}
    with pytest.raises(OpenAPIValidationError):
        validate(broken)


async def test_the_document_is_served(http: HttpFront, described: dict[str, Any]) -> None:
    async with ClientSession() as session, session.get(f"http://{http.address}/v2/openapi.json") as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")
        assert await answer.json() == described


def test_every_path_and_method_means_what_the_routes_say(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        real = path.replace("{version}", "1").replace("{", "").replace("}", "")
        for method in METHODS:
            if method not in methods:
                with pytest.raises(MethodNotAllowedError):
                    match(method.upper(), real)
                continue
            operation = match(method.upper(), real).operation
            assert methods[method]["summary"] == operation.value
            assert methods[method]["tags"] == [GROUP_OF_OPERATION[operation].value]
            assert ("requestBody" in methods[method]) == (method == "post")


def test_every_route_is_described(described: dict[str, Any]) -> None:
    assert set(described["paths"]) == {path for route in ROUTES for path in spelt_out(route.template)}


def test_names_in_paths_are_parameters_and_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        told = [parameter["name"] for parameter in methods.get("parameters", [])]
        assert told == re.findall(r"\{(\w+)\}", path)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)):
        assert reference in described["components"]["schemas"]


def test_every_operation_has_a_name_of_its_own(described: dict[str, Any]) -> None:
    names = [
        methods[method]["operationId"]
        for methods in described["paths"].values()
        for method in METHODS
        if method in methods
    ]
    assert len(set(names)) == len(names)


def test_a_template_is_spelt_out_with_its_options_and_choices() -> None:
    assert spelt_out("/a[/{b}]/{memory}/c") == [
        "/a/system/c",
        "/a/cuda/c",
        "/a/{b}/system/c",
        "/a/{b}/cuda/c",
    ]
