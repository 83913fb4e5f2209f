"""Repositories that are polled: what is followed when, and what is left alone."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.actors.polling import Changes, Watch, first_watch, look
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.backends.fingerprints import Fingerprints
from deuteron.proto.model_id import ModelId

Write = Callable[..., Path]
Follow = Callable[..., Awaitable[Changes]]

NOTHING = Changes()
A, OLD, NEW = ModelId("a"), ModelId("old"), ModelId("new")
IDENTITY, SECOND = ModelId("identity"), ModelId("second")


def at(moment: int) -> Fingerprints:
    """Return what a model may look like; each moment another way."""
    return Fingerprints(configuration=bytes([moment]))


# --- what is followed ---


def test_what_stays_as_it_is_is_left_alone() -> None:
    watch = Watch({A: at(0)})
    assert watch.compare({A: at(0)}) == NOTHING


def test_a_change_is_followed_once_when_it_has_rested_from_one_look_to_the_next() -> None:
    watch = Watch({A: at(0)})
    assert watch.compare({A: at(1)}) == NOTHING
    assert watch.compare({A: at(1)}) == Changes(load=(A,))
    assert watch.compare({A: at(1)}) == NOTHING


def test_what_keeps_changing_is_not_followed_until_it_stops() -> None:
    watch = Watch({A: at(0)})
    for moment in range(1, 9):
        assert watch.compare({A: at(moment)}) == NOTHING
    assert watch.compare({A: at(8)}) == Changes(load=(A,))


def test_a_change_that_is_undone_is_none() -> None:
    watch = Watch({A: at(0)})
    assert watch.compare({A: at(1)}) == NOTHING
    assert watch.compare({A: at(0)}) == NOTHING
    assert watch.compare({A: at(0)}) == NOTHING


def test_models_come_and_go() -> None:
    watch = Watch({OLD: at(0)})
    assert watch.compare({NEW: at(0)}) == NOTHING
    assert watch.compare({NEW: at(0)}) == Changes(load=(NEW,), unload=(OLD,))
    assert watch.compare({NEW: at(0)}) == NOTHING


def test_a_model_that_is_replaced_is_never_unloaded() -> None:
    """Gone at one look, there again at the next."""
    watch = Watch({A: at(0)})
    assert watch.compare({}) == NOTHING
    assert watch.compare({A: at(1)}) == NOTHING
    assert watch.compare({A: at(1)}) == Changes(load=(A,))


# --- on a disk ---


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Return two repositories; the models are written into the first."""
    other = tmp_path.parent / f"{tmp_path.name}_other"
    other.mkdir()
    return [tmp_path, other]


@pytest.fixture
async def repository(paths: list[Path], write_model: Write) -> AsyncIterator[Repository]:
    """Serve `identity`."""
    write_model("identity")
    async with Repository(paths, Catalog(), LoadOptions()) as repository:
        yield repository


@pytest.fixture
async def follow(repository: Repository) -> Follow:
    """Look twice, as if time had passed, and have the repository follow; what it was told is returned."""
    watch = await first_watch(repository)
    await repository.load_at_start(None)

    async def follow_() -> Changes:
        watch.compare(look(repository.paths))
        changes = watch.compare(look(repository.paths))
        await repository.follow(changes.load, changes.unload)
        return changes

    return follow_


async def test_files_that_nobody_touched_are_no_change(repository: Repository, follow: Follow) -> None:
    """Serving leaves the repository as it is."""
    before = repository.find("identity")
    assert await follow() == NOTHING
    assert repository.find("identity") is before


async def test_a_new_model_a_new_version_and_a_changed_file_are_followed(
    repository: Repository, follow: Follow, write_model: Write
) -> None:
    """Only what changed is built."""
    before = repository.find("identity")
    directory = write_model("second")
    assert await follow() == Changes(load=(SECOND,))
    assert repository.versions("second") == (1,)
    assert repository.find("identity") is before
    (directory / "2").mkdir()
    assert await follow() == Changes(load=(SECOND,))
    assert repository.versions("second") == (2,)
    served = repository.find("second")
    (directory / "2" / "weights").write_text("new")
    assert await follow() == Changes(load=(SECOND,))
    assert repository.find("second") is not served


async def test_a_model_that_is_gone_is_unloaded_and_forgiven(
    repository: Repository, follow: Follow, write_model: Write
) -> None:
    """One that could not load does not keep the server from being ready once it is gone."""
    broken = write_model("broken", 'backend: "nobody"')
    await follow()
    assert not repository.ready
    shutil.rmtree(broken)
    shutil.rmtree(broken.with_name("identity"))
    assert await follow() == Changes(unload=(ModelId("broken"), IDENTITY))
    assert repository.versions("identity") == ()
    await repository.close()
    assert repository.index() == []


async def test_what_could_not_be_loaded_is_tried_again_when_it_changes(
    repository: Repository, follow: Follow, write_model: Write
) -> None:
    """And not before."""
    write_model("second", 'backend: "nobody"')
    await follow()
    assert await follow() == NOTHING
    assert not repository.ready
    write_model("second")
    await follow()
    assert repository.versions("second") == (1,)
    assert repository.ready


async def test_a_broken_change_leaves_the_model_as_it_serves(
    repository: Repository, follow: Follow, write_model: Write
) -> None:
    """Its configuration is spoilt, then mended."""
    before = repository.find("identity")
    write_model("identity", "max_batch_size: what")
    await follow()
    assert repository.find("identity") is before
    write_model("identity")
    await follow()
    assert repository.find("identity") is before


async def test_a_name_in_two_repositories_is_served_from_neither_until_one_is_gone(
    repository: Repository, follow: Follow, paths: list[Path]
) -> None:
    """Nobody can say which of the two is meant."""
    shutil.copytree(paths[0] / "identity", paths[1] / "identity")
    assert await follow() == Changes(unload=(IDENTITY,))
    assert repository.versions("identity") == ()
    (entry,) = repository.index()
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "model appears in two or more repositories")
    shutil.rmtree(paths[0] / "identity")
    assert await follow() == Changes(load=(IDENTITY,))
    assert repository.versions("identity") == (1,)
