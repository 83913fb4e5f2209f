"""Repositories that are elsewhere: addresses, who asks, what is fetched when, what an outage does."""

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from unittest import mock

import pytest

from deuteron.backends.model_directory import list_repositories, look_again
from deuteron.backends.remote.address import Address, AddressError, Kind, parse_address
from deuteron.backends.remote.archive import ArchiveRepository
from deuteron.backends.remote.credentials import VARIABLE, credentials_of
from deuteron.backends.remote.mirror import KEPT, Mirror
from deuteron.backends.remote.objects import Entry, Objects
from deuteron.backends.remote.opening import open_repository
from deuteron.backends.remote.repository import ObjectRepository
from deuteron.proto.errors import InferError
from deuteron.proto.model_id import ModelId

from ..object_store import CREDENTIALS, S3, s3_server

CONFIG = 'backend: "identity"\n'
M = ModelId("m")


@pytest.fixture
def s3() -> Iterator[S3]:
    with mock.patch.dict(os.environ, CREDENTIALS), s3_server() as server:
        yield server


@pytest.fixture
def repository(s3: S3, tmp_path: Path) -> ObjectRepository:
    return ObjectRepository(parse_address(s3.address()), tmp_path)


# --- addresses, and who asks ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket", Address("", Kind.S3, "bucket")),
        ("s3://bucket/a/b/", Address("", Kind.S3, "bucket", "a/b")),
        ("s3://host:9000/bucket/a", Address("", Kind.S3, "bucket", "a", endpoint="https://host:9000")),
        ("s3://http://host:9000/bucket", Address("", Kind.S3, "bucket", endpoint="http://host:9000")),
        ("gs://bucket/a", Address("", Kind.GOOGLE, "bucket", "a")),
        ("as://account/box/a", Address("", Kind.AZURE, "box", "a", account="account")),
        ("as://account.blob.core.windows.net/box", Address("", Kind.AZURE, "box", account="account")),
    ],
)
def test_addresses_are_spelt_as_triton_spells_them(text: str, expected: Address) -> None:
    found = parse_address(text)
    assert (found.kind, found.container, found.prefix) == (expected.kind, expected.container, expected.prefix)
    assert (found.account, found.endpoint) == (expected.account, expected.endpoint)


@pytest.mark.parametrize("text", ["s3://", "as://account", "gs://", "ftp://x/y", "http://host/models"])
def test_what_is_no_address_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected|at s3://|must end in"):
        parse_address(text)


def test_the_longest_beginning_in_tritons_credential_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(
        json.dumps(
            {
                "s3": {
                    "": {"key_id": "all", "secret_key": "a", "region": "here", "profile": ""},
                    "s3://mine": {"key_id": "me", "secret_key": "b", "session_token": "t"},
                },
                "gs": {"": "/a/key.json"},
                "as": {"": {"account_str": "x", "account_key": "k"}},
            }
        )
    )
    asked = {VARIABLE: str(file)}
    ours = {"aws_access_key_id": "me", "aws_secret_access_key": "b", "aws_session_token": "t"}
    assert credentials_of(parse_address("s3://mine/a"), asked) == ours
    assert credentials_of(parse_address("s3://other"), asked)["aws_access_key_id"] == "all"
    assert credentials_of(parse_address("gs://b"), asked) == {"google_service_account": "/a/key.json"}
    assert credentials_of(parse_address("as://a/b"), asked) == {"azure_storage_account_key": "k"}
    assert credentials_of(parse_address("s3://mine/a"), {}) == {}
    file.write_text("{")
    with pytest.raises(InferError, match="cannot use the credentials"):
        credentials_of(parse_address("s3://mine"), asked)


# --- what is fetched when ---


def test_a_model_is_fetched_when_its_configuration_is_read(s3: S3, repository: ObjectRepository) -> None:
    s3.put({"m/config.pbtxt": CONFIG, "m/1/weights": b"\0" * 5000, "m/labels.txt": "a\nb", "stray": "x"})
    assert not repository.seen
    look_again([repository])
    home = list_repositories([repository]).found[M]
    assert dict(home.fingerprints().versions).keys() == {1}
    assert home.draft().message.backend == "identity"
    assert (home.path / "1" / "weights").read_bytes() == b"\0" * 5000
    assert home.path.name == "m"

    assert {each.name for each in repository.models("")} == {"m"}


def test_what_has_not_changed_keeps_its_place_and_its_time(s3: S3, repository: ObjectRepository) -> None:
    s3.put({"m/config.pbtxt": CONFIG, "m/1/a": "1", "m/2/b": "2"})
    repository.refresh()
    (first,) = repository.models("")
    assert (first.path / "2" / "b").read_text() == "2"
    s3.put({"m/2/b": "two"})
    repository.refresh()
    (second,) = repository.models("")
    before, after = first.fingerprints(), second.fingerprints()
    assert before.of_version(1) == after.of_version(1)
    assert before.configuration == after.configuration
    assert before.versions[2] != after.versions[2]
    assert (first.path / "1" / "a").stat().st_ino == (second.path / "1" / "a").stat().st_ino
    assert (first.path / "2" / "b").read_text() == "2"
    assert (second.path / "2" / "b").read_text() == "two"


def test_old_snapshots_and_what_only_they_had_go(
    s3: S3, repository: ObjectRepository, tmp_path: Path
) -> None:
    for each in range(KEPT + 4):
        s3.put({"m/1/a": f"number {each}"})
        repository.refresh()
        (model,) = repository.models("")
        assert (model.path / "1" / "a").read_text() == f"number {each}"
    assert len(list((tmp_path / "models").iterdir())) == KEPT
    assert len(list((tmp_path / "contents").iterdir())) == KEPT


def test_an_outage_takes_nothing_away(s3: S3, repository: ObjectRepository) -> None:
    s3.put({"m/config.pbtxt": CONFIG, "m/1/a": "1"})
    s3.stop()
    with pytest.raises(InferError, match="cannot be listed"):
        look_again([repository])
    s3.start()
    look_again([repository])
    s3.stop()
    look_again([repository])
    assert M in list_repositories([repository]).found
    s3.start()


def test_names_that_lead_elsewhere_become_no_files(s3: S3, repository: ObjectRepository) -> None:
    s3.put({"m/1/a": "1", "m/.hidden/b": "2", ".top/1/c": "3"})
    repository.refresh()
    (model,) = repository.models("")
    assert [str(each.relative_to(model.path)) for each in model.path.rglob("*")] == ["1", "1/a"]


class _Torn(Objects):
    """Objects that arrive wrong as often as they are told to."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.address = parse_address("s3://b")
        self.pieces = pieces

    def read(self, entry: Entry) -> Iterator[bytes]:
        yield self.pieces.pop(0)


GOOD = Entry("m/1/a", 5, "5d41402abc4b2a76b9719d911017c592")  # of "hello"


def test_an_object_that_arrives_wrong_is_fetched_again(tmp_path: Path) -> None:
    for pieces in ([b"hullo", b"hello"], [b"hell", b"hello"]):
        path = Mirror(_Torn(pieces), tmp_path / pieces[0].decode()).snapshot("m", [GOOD])
        assert (path / "1" / "a").read_bytes() == b"hello"
    with pytest.raises(InferError, match=r"arrived with 4 bytes and MD5 \w+, expected 5"):
        Mirror(_Torn([b"hell"] * 3), tmp_path / "never").snapshot("m", [GOOD])
    assert not list((tmp_path / "never" / "contents").iterdir())


def test_a_tag_that_is_no_checksum_is_not_taken_for_one(tmp_path: Path) -> None:
    """Of an object that the store encrypts the tag looks like an MD5 sum, and is none."""
    path = Mirror(_Torn([b"hullo", b"hullo"]), tmp_path).snapshot("m", [GOOD])
    assert (path / "1" / "a").read_bytes() == b"hullo"


# --- archives ---


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve the directory `web` over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web")))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def tar_of(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def zip_of(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("r.tar.gz", tar_of), ("r.zip", zip_of)])
def test_an_archive_is_fetched_once_and_again_when_it_changes(
    web: str, tmp_path: Path, name: str, pack: "type[object]"
) -> None:
    file = tmp_path / "web" / name
    file.write_bytes(pack({"m/config.pbtxt": CONFIG, "m/1/a": "1"}))  # type: ignore[arg-type, call-arg]
    os.utime(file, (1e9, 1e9))
    repository = open_repository(parse_address(f"{web}/{name}"), tmp_path / "cache")
    look_again([repository])
    first = list_repositories([repository]).found[M]
    assert (first.path / "1" / "a").read_text() == "1"
    look_again([repository])
    assert list_repositories([repository]).found[M].path == first.path
    file.write_bytes(pack({"m/config.pbtxt": CONFIG, "m/2/a": "2"}))  # type: ignore[arg-type, call-arg]
    look_again([repository])
    second = list_repositories([repository]).found[M]
    assert dict(second.fingerprints().versions).keys() == {2}
    assert (first.path / "1" / "a").is_file()
    file.unlink()
    look_again([repository])
    assert M in list_repositories([repository]).found


def test_an_archive_that_leads_elsewhere_is_refused(web: str, tmp_path: Path) -> None:
    (tmp_path / "web" / "r.tar.gz").write_bytes(tar_of({"../../escaped": "x"}))
    repository = ArchiveRepository(parse_address(f"{web}/r.tar.gz"), tmp_path / "cache")
    with pytest.raises(InferError, match="cannot be fetched"):
        repository.refresh()
    assert not list(tmp_path.rglob("escaped"))
    (tmp_path / "web" / "r.tar.gz").write_bytes(b"no archive at all")
    with pytest.raises(InferError, match="cannot be fetched"):
        repository.refresh()
    with pytest.raises(InferError, match="404"):
        ArchiveRepository(parse_address(f"{web}/no.zip"), tmp_path / "cache").refresh()
