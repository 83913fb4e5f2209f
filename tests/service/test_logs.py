"""Every event is one line, whoever wrote it and whatever is in it."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from deuteron.service import logs
from deuteron.service.settings import LogFormat, LogSettings

pytestmark = pytest.mark.usefixtures("restored_logging")

HOSTILE = 'a\nI0101 00:00:00.000000 1 x.cc:1] forged\x1b[31m\x9b\u2028\udc80"end'

Lines = Callable[[], list[str]]
OPEN = LogSettings(verbose=1)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    def written() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return written


def log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("deuteron.test")
    return logger


def fail(message: str) -> None:
    raise ValueError(message)


def test_the_default_form_is_tritons(lines: Lines) -> None:
    logs.configure(OPEN)
    log().info("Started HTTPService at 127.0.0.1:8000", models=3, name="two words")
    log().warning("late")
    log().error("broken")
    log().debug("detail")
    info, warning, error, verbose = lines()
    assert re.fullmatch(
        r"I\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ test_logs\.py:\d+\] Started HTTPService at 127\.0\.0\.1:8000 "
        r'models=3 name="two words"',
        info,
    )
    assert [line[0] for line in (warning, error, verbose)] == ["W", "E", "V"]


def test_values_stand_in_the_quotes_that_they_do_not_have(lines: Lines) -> None:
    logs.configure(OPEN)
    log().info("told", reason='the "r" is short')
    log().info("told", reason="model 'm'")
    log().info("told", reason="model 'm' has \"r\"")
    assert [line.partition(" told ")[2] for line in lines()] == [
        "reason='the \"r\" is short'",
        "reason=\"model 'm'\"",
        'reason="model \'m\' has \\"r\\""',
    ]


def test_the_iso_form_is_tritons(lines: Lines) -> None:
    logs.configure(LogSettings(format=LogFormat.ISO8601))
    log().info("hello")
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ I \d+ test_logs\.py:\d+\] hello", line)


def test_the_json_form_is_one_object_a_line(lines: Lines) -> None:
    logs.configure(LogSettings(format=LogFormat.JSON))
    log().info("loaded", model="digits", version=1, seconds=0.5, again=True)
    event = json.loads(lines()[0])
    assert (event["level"], event["event"]) == ("info", "loaded")
    assert (event["model"], event["version"], event["seconds"], event["again"]) == ("digits", 1, 0.5, True)
    assert event["source"].startswith("test_logs.py:")


@pytest.mark.parametrize("log_format", LogFormat)
def test_nobody_can_forge_a_line(lines: Lines, log_format: LogFormat) -> None:
    """Neither through deuteron's own events nor through those of libraries, nor through exceptions."""
    logs.configure(LogSettings(format=log_format))
    log().info(HOSTILE, model=HOSTILE)
    logging.getLogger("library").warning("got %s", HOSTILE, extra={"model": HOSTILE})
    try:
        fail(HOSTILE)
    except ValueError:
        log().exception("failed")
    written = lines()
    assert len(written) == 3
    assert all(line.isprintable() for line in written)


@pytest.mark.parametrize("log_format", LogFormat)
def test_an_exception_tells_its_message_and_its_frames(lines: Lines, log_format: LogFormat) -> None:
    logs.configure(LogSettings(format=log_format))
    try:
        fail("no such layer")
    except ValueError:
        log().exception("failed", model="m")
        logging.getLogger("library").exception("failed too")
    own, foreign = lines()
    for line in (own, foreign):
        assert "ValueError: no such layer" in line
        assert re.search(r"test_logs\.py:\d+ fail < test_logs\.py:\d+ test_an_exception", line)


def test_one_event_has_a_bound(lines: Lines) -> None:
    logs.configure(LogSettings())
    log().info("x" * 10_000_000, model="y" * 10_000_000)
    (line,) = lines()
    assert len(line) < 3 * logs.MAX_TEXT
    assert "…(+9998000)" in line


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (LogSettings(), "IWE"),
        (LogSettings(info=False), "WE"),
        (LogSettings(warning=False), "IE"),
        (LogSettings(error=False), "IW"),
        (LogSettings(verbose=1), "VIWE"),
    ],
)
def test_levels_are_switched_one_by_one(lines: Lines, settings: LogSettings, expected: str) -> None:
    logs.configure(settings)
    logging.getLogger("library").debug("a detail of a library is never logged")
    for level in ("debug", "info", "warning", "error"):
        getattr(log(), level)("x")
    assert "".join(line[0] for line in lines()) == expected


def test_a_log_file_is_appended_to(tmp_path: Path, lines: Lines) -> None:
    path = tmp_path / "server.log"
    path.write_text("before\n")
    logs.configure(LogSettings(file=path))
    log().info("after")
    logs.configure(LogSettings())
    assert lines() == []
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == ["before", "after"]


def test_a_log_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        logs.configure(LogSettings(file=tmp_path / "no" / "such.log"))
