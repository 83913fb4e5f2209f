"""Whoever starts the server sees what it serves, where, and a command that works when it is pasted."""

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deuteron.service import logs
from deuteron.service.banner import HTTP_SERVICE, command_to_try, show, table
from deuteron.service.doorway import Doorway
from deuteron.service.http.front import HttpFront
from deuteron.service.settings import LogFormat, LogSettings, Settings

pytestmark = pytest.mark.usefixtures("restored_logging")

IDENTITY = """
backend: "identity"
input [{ name: "INPUT0" data_type: %s dims: [ %d ] }]
output [{ name: "OUTPUT0" data_type: %s dims: [ %d ] }]
"""

BuildDoorway = Callable[..., Awaitable[Doorway]]


def test_a_table_has_tritons_form() -> None:
    assert table([("Model", "Version"), ("m", "1"), ("another", "10")]) == [
        "+---------+---------+",
        "| Model   | Version |",
        "+---------+---------+",
        "| m       | 1       |",
        "| another | 10      |",
        "+---------+---------+",
    ]


def test_a_cell_of_a_table_may_have_several_lines() -> None:
    assert table([("Model", "Status"), ("m", "one\nand two"), ("n", "three")]) == [
        "+-------+---------+",
        "| Model | Status  |",
        "+-------+---------+",
        "| m     | one     |",
        "|       | and two |",
        "| n     | three   |",
        "+-------+---------+",
    ]


async def test_people_see_models_addresses_and_a_command(
    doorway: Doorway, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    show(doorway.repository, Settings(), {HTTP_SERVICE: "0.0.0.0:8000", "Metrics Service": "0.0.0.0:8002"})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| simple  | 1       | READY") for line in lines)
    (broken,) = (line for line in lines if line.startswith("| broken"))
    assert "UNAVAILABLE: Invalid argument: unable to find backend library" in broken
    assert any(line.rstrip(" |").endswith("configuration.") for line in lines)
    assert all(len(line) < 160 for line in lines if line.startswith("|"))
    assert "HTTPService            0.0.0.0:8000" in lines
    assert any(line.startswith("  curl -s http://localhost:8000/v2/models/") for line in lines)


async def test_machines_get_an_event_for_each_model(
    doorway: Doorway, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LogSettings(format=LogFormat.JSON)
    logs.configure(log)
    capsys.readouterr()
    show(doorway.repository, Settings(log=log), {HTTP_SERVICE: "0.0.0.0:8000"})
    captured = capsys.readouterr()
    events = {event["model"]: event for event in map(json.loads, captured.err.splitlines())}
    assert captured.out == ""
    assert (events["simple"]["version"], events["simple"]["state"]) == (1, "READY")
    assert events["broken"]["state"] == "UNAVAILABLE"


async def test_the_command_works_when_it_is_pasted(doorway: Doorway, http: HttpFront) -> None:
    command = command_to_try(doorway.repository.served(), http.address)
    curl = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=asyncio.subprocess.PIPE)
    answer = json.loads((await curl.communicate())[0])
    assert answer["outputs"][0]["name"] == "OUTPUT0"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("0.0.0.0:8000", "http://localhost:8000/"),
        (":::8000", "http://localhost:8000/"),
        ("::1:8000", "http://[::1]:8000/"),
        ("10.1.2.3:80", "http://10.1.2.3:80/"),
        ("unix:/run/a door", "--unix-socket '/run/a door' http://localhost/"),
    ],
)
async def test_the_command_names_an_address_that_can_be_reached(
    doorway: Doorway, address: str, host: str
) -> None:
    assert host in command_to_try(doorway.repository.served(), address)


async def test_the_command_trusts_the_certificate_of_the_server(doorway: Doorway) -> None:
    command = command_to_try(doorway.repository.served(), "0.0.0.0:8000", Path("c.pem"))
    assert command.startswith("curl -s --cacert c.pem https://localhost:8000/")


async def test_there_is_no_command_where_nothing_can_be_asked_in_one_line(
    build_doorway: BuildDoorway, doorway: Doorway
) -> None:
    assert command_to_try(doorway.repository.served(), None) == ""
    other = await build_doorway(
        {
            "huge": IDENTITY % ("TYPE_FP32", 1000, "TYPE_FP32", 1000),
            "text": IDENTITY % ("TYPE_STRING", 1, "TYPE_STRING", 1),
            "half": IDENTITY % ("TYPE_FP16", 1, "TYPE_FP16", 1),
        }
    )
    unasked = [model for model in other.repository.served() if model.name in ("huge", "text", "half")]
    assert len(unasked) == 3
    assert command_to_try(unasked, "0.0.0.0:8000") == ""
