"""Workers killed at random under load, in short; `python -m tests.e2e.chaos` does it for a minute."""

from collections.abc import Callable
from pathlib import Path

from . import chaos
from .house import Server


def test_only_what_a_killed_worker_had_begun_fails(serve: Callable[..., Server], tmp_path: Path) -> None:
    names = chaos.write_models(tmp_path / "models", 3)
    server = serve(tmp_path / "models")
    record = chaos.run(server, names, seconds=3, rounds=2, seed=1)
    assert record.kills == 6
    assert record.wrong == []
    assert 0 < len(record.explained) <= chaos.MOST_BEGUN * record.kills
    assert record.answered > 100
