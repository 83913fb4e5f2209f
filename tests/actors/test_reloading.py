"""Loading anew, with what the repository or a request says, while others load and unload as well."""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deuteron.actors.loading import LoadOptions
from deuteron.actors.repository import Repository
from deuteron.backends.private_directory import Override
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Request, Response

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]
Infer = Callable[[Repository, str, Request], Awaitable[Response]]
Ask = Callable[..., Request]

ALL_VERSIONS = """
backend: "identity"
version_policy { all { } }
max_batch_size: 8
input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]
"""

HANGS_HERE = 'backend: "python" parameters { key: "in_process" value { string_value: "true" } }'
"""Where nobody can end the thread of a load that hangs."""
HANGS = """
import pathlib, time

class TritonPythonModel:
    def initialize(self, args):
        while not pathlib.Path(args["model_repository"], "go").exists():
            time.sleep(0.005)

    def execute(self, requests):
        return []
"""

AS_JSON = {
    "backend": "identity",
    "max_batch_size": 4,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
}


def as_json(**changes: object) -> str:
    """Return the configuration of an identity model for rows of up to four, with changes."""
    return json.dumps({**AS_JSON, **changes})


def states(repository: Repository) -> dict[tuple[str, int | None], tuple[str, str]]:
    return {(entry.name, entry.version): (entry.state, entry.reason) for entry in repository.index()}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is about to happen."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody when it happens
            await asyncio.sleep(0.001)


def private_directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("deuteron_*"))


# --- what is built, and what is left alone ---


async def test_what_has_not_changed_is_left_as_it_serves(write_model: Write, open_repository: Open) -> None:
    """A load of a model as it is served builds nothing, even where its files were written anew in vain."""
    write_model("identity")
    repository = await open_repository()
    before = repository.find("identity")
    write_model("identity")
    await repository.load("identity")
    assert repository.find("identity") is before


async def test_only_the_version_that_changed_is_built(write_model: Write, open_repository: Open) -> None:
    """Version 2 gets a new file: it is replaced, and version 1 is not."""
    directory = write_model("identity", ALL_VERSIONS, versions=(1, 2))
    repository = await open_repository()
    first, second = repository.find("identity", 1), repository.find("identity", 2)
    (directory / "2" / "weights").write_text("new")
    await repository.load("identity")
    assert repository.find("identity", 1) is first
    assert repository.find("identity", 2) is not second


async def test_what_all_versions_share_concerns_all_versions(
    write_model: Write, open_repository: Open
) -> None:
    """A file beside the versions, such as one of labels, is a change of each."""
    directory = write_model("identity", ALL_VERSIONS, versions=(1, 2))
    repository = await open_repository()
    before = {version: repository.find("identity", version) for version in (1, 2)}
    (directory / "labels.txt").write_text("a\nb\n")
    await repository.load("identity")
    assert all(repository.find("identity", version) is not before[version] for version in (1, 2))


async def test_versions_come_and_go_and_the_others_stay(write_model: Write, open_repository: Open) -> None:
    """With the latest version replaced by a later one, only the new one is built."""
    directory = write_model("identity", ALL_VERSIONS, versions=(1, 2))
    repository = await open_repository()
    second = repository.find("identity", 2)
    (directory / "3").mkdir()
    (directory / "1").rmdir()
    await repository.load("identity")
    assert repository.versions("identity") == (2, 3)
    assert repository.find("identity", 2) is second
    await until(lambda: states(repository)["identity", 1] == ("UNAVAILABLE", "unloaded"))


async def test_a_version_that_fails_takes_none_of_the_others_along(
    write_model: Write, open_repository: Open
) -> None:
    """All versions of a broken configuration fail; what served goes on, and is repaired by the next load."""
    write_model("identity", ALL_VERSIONS, versions=(1, 2))
    repository = await open_repository()
    before = {version: repository.find("identity", version) for version in (1, 2)}
    broken = ALL_VERSIONS + 'parameters { key: "fail_load" value { string_value: "no" } }'
    write_model("identity", broken, versions=(1, 2))
    with pytest.raises(InferError, match=r"version 1 is at UNAVAILABLE state: Internal: no;\nversion 2 is"):
        await repository.load("identity")
    assert all(repository.find("identity", version) is before[version] for version in (1, 2))
    write_model("identity", ALL_VERSIONS, versions=(1, 2))
    await repository.load("identity")
    assert all(repository.find("identity", version) is before[version] for version in (1, 2))


# --- with what a request brings ---


async def test_a_configuration_may_come_with_the_request(write_model: Write, open_repository: Open) -> None:
    """It replaces that of the repository wholly, until the next load without one."""
    write_model("identity")
    repository = await open_repository()
    await repository.load("identity", Override(as_json()))
    assert repository.find("identity").config.max_batch_size == 4
    await repository.load("identity")
    assert repository.find("identity").config.max_batch_size == 8


@pytest.mark.parametrize(
    "config",
    ["{", "[]", as_json(name="another"), as_json(nonsense=1), '"' + "x" * (1 << 21) + '"'],
    ids=["no JSON", "no object", "another name", "an unknown field", "two megabytes"],
)
async def test_a_bad_configuration_leaves_the_model_as_it_is(
    write_model: Write, open_repository: Open, config: str
) -> None:
    """The answer is Triton's, and the model serves on."""
    write_model("identity")
    repository = await open_repository()
    before = repository.find("identity")
    with pytest.raises(InferError) as refused:
        await repository.load("identity", Override(config))
    assert refused.value.fault is Fault.INTERNAL
    assert refused.value.message == "failed to load 'identity', failed to poll from model repository"
    assert repository.find("identity") is before


async def test_files_may_come_with_the_request_and_leave_nothing_behind(
    write_model: Write, open_repository: Open
) -> None:
    """The model is what was sent and no more; the next plain load restores what the repository has."""
    write_model("identity")
    already_there = private_directories()
    repository = await open_repository()
    await repository.load("identity", Override(as_json(), {"file:7/weights": b"sent"}))
    assert repository.versions("identity") == (7,)
    (private,) = private_directories() - already_there
    assert (private / "identity" / "7" / "weights").read_bytes() == b"sent"
    assert private.stat().st_mode & 0o077 == 0
    await repository.load("identity")
    assert repository.versions("identity") == (1,)
    await until(lambda: private_directories() == already_there)
    assert states(repository)["identity", 7] == ("UNAVAILABLE", "unloaded")


async def test_a_model_need_not_stand_in_the_repository_when_its_files_are_sent(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """It serves, but is not in the index, which lists what stands on disk."""
    write_model("identity")
    repository = await open_repository()
    await repository.load("sent", Override(as_json(), {"file:1/weights": b""}))
    assert (await infer(repository, "sent", ask())).outputs
    assert {name for name, _ in states(repository)} == {"identity"}


@pytest.mark.parametrize(
    "files",
    [
        {"file:../escape": b""},
        {"file:1/../../escape": b""},
        {"file:/../passwd": b""},
        {"file:": b""},
        {"file:1/..": b""},
        {"file:a\0b": b""},
        {"file:" + "a" * 300: b""},
        {"file:1": b"", "file:1/model.py": b""},
        {"file:1/a": b"", "file:1/./a": b""},
    ],
    ids=str,
)
async def test_hostile_files_are_refused_and_leave_nothing_behind(
    open_repository: Open, files: dict[str, bytes]
) -> None:
    """Neither a file, nor a directory, nor a record of the name stays."""
    already_there = private_directories()
    repository = await open_repository()
    with pytest.raises(InferError) as refused:
        await repository.load("hostile", Override(as_json(), files))
    assert refused.value.message == "failed to load 'hostile', failed to poll from model repository"
    assert private_directories() == already_there
    with pytest.raises(InferError, match="'hostile' is not found"):
        repository.find("hostile")


async def test_files_without_a_configuration_are_refused(write_model: Write, open_repository: Open) -> None:
    """That of the repository may not fit them."""
    write_model("identity")
    repository = await open_repository()
    with pytest.raises(InferError, match="failed to poll from model repository"):
        await repository.load("identity", Override(None, {"file:1/weights": b""}))
    assert repository.versions("identity") == (1,)


# --- at once ---


async def test_clients_may_load_and_unload_a_model_at_once(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """Each waits for its turn; whatever the order, the end is well defined and the model answers again."""
    write_model("identity")
    repository = await open_repository()
    await asyncio.gather(
        *(
            repository.unload("identity") if number % 3 else repository.load("identity")
            for number in range(40)
        )
    )
    await repository.load("identity")
    assert (await infer(repository, "identity", ask())).outputs
    assert states(repository)["identity", 1] == ("READY", "")


SLOW = ALL_VERSIONS + 'parameters { key: "execute_delay_ms" value { string_value: "50" } }'


async def test_a_model_is_loaded_while_it_still_drains(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """The old version answers what it has, and its end is not taken for that of the new one."""
    write_model("identity", SLOW)
    repository = await open_repository()
    waiting = asyncio.ensure_future(infer(repository, "identity", ask()))
    await asyncio.sleep(0)
    await repository.unload("identity")
    await repository.load("identity")
    assert (await waiting).outputs
    assert (await infer(repository, "identity", ask())).outputs
    assert states(repository)["identity", 1] == ("READY", "")


async def test_a_load_goes_on_when_whoever_asked_for_it_goes_away(
    write_model: Write, open_repository: Open
) -> None:
    """A client that hangs up leaves no model that loads for ever."""
    write_model("identity")
    repository = await open_repository([])
    asked = asyncio.ensure_future(repository.load("identity"))
    await asyncio.sleep(0)
    asked.cancel()
    await until(lambda: repository.versions("identity") == (1,))


async def test_a_load_that_hangs_is_given_up_and_taken_down_should_it_end(
    write_model: Write, open_repository: Open
) -> None:
    """The reason says so; the model may be loaded and unloaded as before."""
    directory = write_model("hangs", HANGS_HERE)
    (directory / "1" / "model.py").write_text(HANGS)
    write_model("identity")
    repository = await open_repository(["identity"], LoadOptions(timeout_s=0.05))
    with pytest.raises(
        InferError, match=r"Unavailable: version 1 of model 'hangs' was not ready within 0.05"
    ):
        await repository.load("hangs")
    assert states(repository)["hangs", 1][0] == "UNAVAILABLE"
    assert repository.versions("identity") == (1,)
    (directory / "go").touch()
    await repository.load("hangs")
    assert repository.versions("hangs") == (1,)


async def test_a_server_ends_though_a_load_hangs(write_model: Write, open_repository: Open) -> None:
    """Neither a load that was given up nor one that goes on keeps the repository from closing."""
    directory = write_model("hangs", HANGS_HERE)
    (directory / "1" / "model.py").write_text(HANGS)
    repository = await open_repository([], LoadOptions(timeout_s=30))
    asked = asyncio.ensure_future(repository.load("hangs"))
    await until(lambda: states(repository).get(("hangs", 1), ("", ""))[0] == "LOADING")
    async with asyncio.timeout(5):
        await repository.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
    (directory / "go").touch()


async def test_a_repository_that_is_closed_loads_nothing(write_model: Write, open_repository: Open) -> None:
    """What would begin to serve now would never end."""
    write_model("identity")
    repository = await open_repository([])
    await repository.close()
    for undertaking in (repository.load("identity"), repository.unload("identity")):
        with pytest.raises(InferError, match="Server not ready"):
            await undertaking


async def test_a_model_may_have_several_configurations_of_which_the_operator_names_one(
    write_model: Write, open_repository: Open
) -> None:
    """A model that has none of that name is served as its only one says."""
    configs = write_model("identity") / "configs"
    configs.mkdir()
    (configs / "small.pbtxt").write_text(ALL_VERSIONS.replace("max_batch_size: 8", "max_batch_size: 2"))
    write_model("other")
    repository = await open_repository(None, LoadOptions(config_name="small"))
    assert repository.find("identity").config.max_batch_size == 2
    assert repository.find("other").config.max_batch_size == 8


WARMED = (
    ALL_VERSIONS
    + """
parameters { key: "fail_every" value { string_value: "3" } }
model_warmup { name: "twice" batch_size: 4 count: 2
  inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } } }
"""
)


async def test_an_instance_has_run_its_samples_before_it_serves(
    write_model: Write, open_repository: Open, infer: Infer, ask: Ask
) -> None:
    """The engine refuses its third execution, which is the first of a client; the samples are not counted."""
    write_model("identity", WARMED)
    repository = await open_repository()
    statistics = repository.find("identity").statistics
    assert (statistics.inference_count, statistics.execution_count) == (0, 0)
    with pytest.raises(InferError):
        await infer(repository, "identity", ask())
    assert (await infer(repository, "identity", ask())).outputs


async def test_a_sample_that_fails_keeps_the_version_from_serving(
    write_model: Write, open_repository: Open
) -> None:
    """And the version that serves already goes on."""
    write_model("identity")
    repository = await open_repository()
    before = repository.find("identity")
    write_model("identity", WARMED.replace('"3"', '"1"'))
    with pytest.raises(InferError, match="failed to run warmup sample 'twice': "):
        await repository.load("identity")
    assert repository.find("identity") is before


async def test_a_configuration_that_cannot_be_read_does_not_take_the_server_out_of_readiness(
    write_model: Write, open_repository: Open
) -> None:
    """As in Triton; a version that cannot load does."""
    write_model("identity")
    write_model("illegible", "max_batch_size: what")
    write_model("broken", ALL_VERSIONS + 'parameters { key: "fail_load" value { string_value: "no" } }')
    repository = await open_repository(["identity"])
    with pytest.raises(InferError):
        await repository.load("illegible")
    assert repository.ready
    with pytest.raises(InferError):
        await repository.load("broken")
    assert not repository.ready


# --- tried again ---


async def test_a_load_is_tried_as_often_as_the_operator_wants(
    write_model: Write, open_repository: Open, tmp_path: Path
) -> None:
    """A model that comes up at its third attempt serves where two more are allowed, and not where one is."""
    counted = """
import pathlib

class TritonPythonModel:
    def initialize(self, args):
        tried = pathlib.Path(args["model_repository"], "tried")
        attempt = len(tried.read_text()) if tried.exists() else 0
        tried.write_text("x" * (attempt + 1))
        if attempt < 2:
            raise RuntimeError("not yet")

    def execute(self, requests):
        return []
"""
    directory = write_model("moody", 'backend: "python"')
    (directory / "1" / "model.py").write_text(counted)
    repository = await open_repository([], LoadOptions(retries=1))
    with pytest.raises(InferError, match="not yet"):
        await repository.load("moody")
    (directory / "tried").unlink()
    repository = await open_repository([], LoadOptions(retries=2))
    await repository.load("moody")
    assert repository.versions("moody") == (1,)


async def test_a_load_that_was_given_up_is_not_tried_again(write_model: Write, open_repository: Open) -> None:
    """Its thread still hangs: another attempt would only hang beside it."""
    directory = write_model("hangs", HANGS_HERE)
    (directory / "1" / "model.py").write_text(HANGS)
    repository = await open_repository([], LoadOptions(timeout_s=0.05, retries=100))
    with pytest.raises(InferError, match=r"not ready within 0\.05 seconds"):
        await repository.load("hangs")
    (directory / "go").touch()
    await repository.close()


async def test_a_directory_with_nothing_in_it_says_so(open_repository: Open, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    repository = await open_repository()
    (entry,) = repository.index()
    assert entry.reason == (
        "Not found: model 'empty' has neither a configuration, config.pbtxt, nor model files in a version "
        "directory such as 1"
    )
