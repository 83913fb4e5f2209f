"""The store of environments: each built once, whole or not there."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deuteron.backends.python.environments.store import Store
from deuteron.proto.errors import InferError


def build(place: Path) -> None:
    """Build an environment that is a file."""
    place.mkdir()
    (place / "built").touch()


def refuse(place: Path) -> None:
    """Build nothing."""
    raise AssertionError(place)


def test_an_environment_is_built_once(tmp_path: Path) -> None:
    place = Store(str(tmp_path)).get("key", "model", build)
    assert (place / "built").exists()
    assert Store(str(tmp_path)).get("key", "model", refuse) == place


def test_builders_of_one_key_wait_for_the_first(tmp_path: Path) -> None:
    built: list[Path] = []
    together = threading.Barrier(8)

    def build_and_note(place: Path) -> None:
        build(place)
        built.append(place)

    def get(_: int) -> Path:
        together.wait()
        return Store(str(tmp_path)).get("key", "model", build_and_note)

    with ThreadPoolExecutor(8) as pool:
        places = set(pool.map(get, range(8)))
    assert places == set(built)
    assert len(built) == 1


def test_what_a_builder_left_unfinished_is_built_anew(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        place.mkdir()
        (place / "half").touch()
        raise InferError.__new__(InferError)

    store = Store(str(tmp_path))
    with pytest.raises(InferError):
        store.get("key", "model", fail)
    assert not (tmp_path / "key").exists()
    (tmp_path / "key" / "of_one_that_was_killed").mkdir(parents=True)
    place = store.get("key", "model", build)
    assert sorted(each.name for each in place.iterdir()) == [".whole", "built"]


def test_a_store_that_cannot_be_written_is_an_error_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InferError, match="environment of model 'model' cannot be kept in"):
        Store(str(tmp_path / "file" / "below")).get("key", "model", build)


def test_without_a_setting_the_store_is_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Store("").get("key", "model", build) == tmp_path / "deuteron" / "environments" / "key"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    expected = tmp_path / "home" / ".cache" / "deuteron" / "environments" / "key"
    assert Store("").get("key", "model", build) == expected
