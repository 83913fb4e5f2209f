"""Clients see what is logged and change it while the server runs; where it goes they do not choose."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from tritonclient.grpc import service_pb2
from tritonclient.grpc.aio import InferenceServerClient as GrpcClient
from tritonclient.http.aio import InferenceServerClient as HttpClient
from tritonclient.utils import InferenceServerException

from deuteron.service import log_settings
from deuteron.service.doorway import Doorway
from deuteron.service.grpc.front import GrpcFront
from deuteron.service.http.front import HttpFront
from deuteron.service.logs import ServerLog, configure
from deuteron.service.settings import LogFormat, LogSettings

AT_FIRST = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}

OTHERS = {
    "log_info": False,
    "log_warning": False,
    "log_error": False,
    "log_verbose_level": 3,
    "log_format": "ISO8601",
}


@pytest.fixture
async def http_client(http: HttpFront) -> AsyncIterator[HttpClient]:
    async with HttpClient(http.address) as client:
        yield client


@pytest.fixture
async def grpc_client(grpc_door: GrpcFront) -> AsyncIterator[GrpcClient]:
    async with GrpcClient(grpc_door.address) as client:
        yield client


def plain(response: service_pb2.LogSettingsResponse) -> dict[str, Any]:
    """Return the settings of a response of gRPC."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in response.settings.items()
    }


async def post(front: HttpFront, body: bytes) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{front.address}/v2/logging", data=body) as response,
    ):
        return response.status, await response.json()


async def test_both_protocols_tell_the_same(http_client: HttpClient, grpc_client: GrpcClient) -> None:
    assert await http_client.get_log_settings() == AT_FIRST
    assert plain(await grpc_client.get_log_settings()) == AT_FIRST


async def test_http_changes_what_it_names(
    doorway: Doorway, http_client: HttpClient, grpc_client: GrpcClient
) -> None:
    assert await http_client.update_log_settings({"log_info": False}) == {**AT_FIRST, "log_info": False}
    assert await http_client.update_log_settings(OTHERS) == {**AT_FIRST, **OTHERS}
    assert plain(await grpc_client.get_log_settings()) == {**AT_FIRST, **OTHERS}
    assert doorway.log.settings == LogSettings(
        info=False, warning=False, error=False, verbose=3, format=LogFormat.ISO8601
    )


async def test_grpc_changes_what_it_names(http_client: HttpClient, grpc_client: GrpcClient) -> None:
    assert plain(await grpc_client.update_log_settings(OTHERS)) == {**AT_FIRST, **OTHERS}
    back = {name: AT_FIRST[name] for name in OTHERS}
    assert plain(await grpc_client.update_log_settings(back)) == AT_FIRST
    assert await http_client.get_log_settings() == AT_FIRST


@pytest.mark.parametrize("body", [b"", b"{}", b'{"log_file": null, "log_info": null, "unknown": 1}', b"[]"])
async def test_what_is_null_or_unknown_is_left_as_it_is(http: HttpFront, body: bytes) -> None:
    assert await post(http, body) == (200, AT_FIRST)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            b'{"log_file": "/tmp/x"}',
            501,
            "log file location can not be updated through network protocol",
        ),
        (b'{"log_file": ""}', 501, "log file location can not be updated through network protocol"),
        (b'{"log_info": 1}', 500, "attempt to access JSON non-boolean as boolean"),
        (b'{"log_error": "true"}', 500, "attempt to access JSON non-boolean as boolean"),
        (
            b'{"log_verbose_level": -1}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            b'{"log_verbose_level": true}',
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (b'{"log_format": 1}', 500, "attempt to access JSON non-string as string"),
        (b'{"log_format": "xml"}', 503, "invalid argument for --log_format, got: xml"),
        (b'{"log_format": "\xff"}', 503, "invalid argument for --log_format, got: \ufffd"),
        (b"{", 500, "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
    ],
)
async def test_http_refuses_in_tritons_words_and_changes_nothing(
    doorway: Doorway, http: HttpFront, body: bytes, status: int, message: str
) -> None:
    before = doorway.log.settings
    if body.endswith(b"}"):
        body = b'{"log_warning": false, ' + body[1:]
    found, told = await post(http, body)
    assert found == status
    assert told["error"].replace("?", "\ufffd") == message
    assert doorway.log.settings == before


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (
            {"log_file": "x"},
            "StatusCode.UNIMPLEMENTED",
            "log file location can not be updated through network protocol",
        ),
        ({"log_info": None}, "StatusCode.INVALID_ARGUMENT", "expect boolean for 'log_info'"),
        (
            {"log_verbose_level": None},
            "StatusCode.INVALID_ARGUMENT",
            "expect int32 for 'log_verbose_level'",
        ),
        ({"log_format": None}, "StatusCode.INVALID_ARGUMENT", "expect string for 'log_format'"),
        (
            {"log_format": "xml"},
            "StatusCode.INVALID_ARGUMENT",
            "invalid argument for log_format, got: xml",
        ),
    ],
)
async def test_grpc_refuses_in_tritons_words_and_changes_nothing(
    doorway: Doorway, grpc_client: GrpcClient, settings: dict[str, Any], status: str, message: str
) -> None:
    before = doorway.log.settings
    with pytest.raises(InferenceServerException) as caught:
        await grpc_client.update_log_settings({"log_warning": False, **settings})
    assert (caught.value.status(), caught.value.message()) == (status, message)
    assert doorway.log.settings == before


def test_a_verbosity_beyond_32_bits_is_the_highest() -> None:
    settings = log_settings.changed(LogSettings(), {"log_verbose_level": 2**63}, ValueError)  # type: ignore[arg-type] # not called
    assert settings.verbose == log_settings.MAX_VERBOSITY


@pytest.mark.usefixtures("restored_logging")
def test_a_change_holds_from_the_next_event_on(capsys: pytest.CaptureFixture[str]) -> None:
    server_log = configure(LogSettings())
    log = structlog.stdlib.get_logger("deuteron.test")

    def all_levels() -> list[str]:
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)("x")
        return capsys.readouterr().err.splitlines()

    assert [line[0] for line in all_levels()] == ["I", "W", "E"]
    server_log.change(LogSettings(info=False, verbose=1))
    assert [line[0] for line in all_levels()] == ["V", "W", "E"]
    server_log.change(LogSettings(format=LogFormat.JSON))
    assert [json.loads(line)["level"] for line in all_levels()] == ["info", "warning", "error"]


@pytest.mark.usefixtures("restored_logging")
def test_no_change_moves_the_log(tmp_path: Path) -> None:
    server_log = configure(LogSettings(file=tmp_path / "server.log"))
    server_log.change(LogSettings(file=tmp_path / "other.log", verbose=1))
    structlog.stdlib.get_logger("deuteron.test").debug("here")
    assert server_log.settings.file == tmp_path / "server.log"
    assert "here" in (tmp_path / "server.log").read_text()
    assert not (tmp_path / "other.log").exists()
    configure(LogSettings())


def test_a_log_that_is_not_installed_leaves_the_process_alone() -> None:
    level = logging.getLogger().level
    ServerLog(LogSettings()).change(LogSettings(verbose=1))
    assert logging.getLogger().level == level
