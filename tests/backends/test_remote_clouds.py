"""Repositories at Google and in Azure: an emulator of one where it is installed, a stand-in for the other."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
import pytest
from obstore.store import AzureStore

from deuteron.backends.model_directory import list_repositories, look_again
from deuteron.backends.remote.address import parse_address
from deuteron.backends.remote.repository import ObjectRepository
from deuteron.proto.model_id import ModelId

FILES = {"m/config.pbtxt": b'backend: "identity"', "m/1/a": b"one"}
M = ModelId("m")

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every Azurite knows, and publishes, as the key of its only account."""


def loads_and_follows(repository: ObjectRepository, put: Callable[[str, bytes], object]) -> None:
    """See that a model is found and fetched, and that a new version of it is."""
    look_again([repository])
    first = list_repositories([repository]).found[M]
    assert first.draft().message.backend == "identity"
    assert (first.path / "1" / "a").read_bytes() == b"one"
    put("m/2/b", b"two")
    look_again([repository])
    second = list_repositories([repository]).found[M]
    assert second.fingerprints().of_version(1) == first.fingerprints().of_version(1)
    assert (second.path / "2" / "b").read_bytes() == b"two"


# --- Azure ---


@pytest.fixture
def azurite(tmp_path: Path) -> Iterator[str]:
    """Run the emulator; return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        "azurite-blob",
        "--inMemoryPersistence",
        "--skipApiVersionCheck",
        "--silent",
        "--disableTelemetry",
        "--blobPort",
        str(port),
    ]
    process = subprocess.Popen(words, cwd=tmp_path)
    try:
        for _ in range(200):
            with socket.socket() as visitor:
                if visitor.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(shutil.which("azurite-blob") is None, reason="no azurite-blob: npm install -g azurite")
def test_a_container_in_azure_is_a_repository(azurite: str, tmp_path: Path) -> None:
    environment = {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": azurite,
        "AZURE_STORAGE_KEY": KEY,
    }
    with mock.patch.dict(os.environ, environment):
        options: Any = {"allow_http": True}
        store = AzureStore("box", account_name=ACCOUNT, account_key=KEY, client_options=options)
        _make_container(azurite)
        for name, content in FILES.items():
            obstore.put(store, f"models/{name}", content)
        repository = ObjectRepository(parse_address(f"as://{ACCOUNT}/box/models"), tmp_path)
        loads_and_follows(repository, lambda name, content: obstore.put(store, f"models/{name}", content))


def _make_container(azurite: str) -> None:
    import base64
    import hmac
    import urllib.request
    from email.utils import formatdate

    date = formatdate(usegmt=True)
    version = "2021-12-02"
    signed = (
        "PUT\n\n\n\n\n\n\n\n\n\n\n\n"
        f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/box\nrestype:container"
    )
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), "sha256")
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    request = urllib.request.Request(
        f"{azurite}/{ACCOUNT}/box?restype=container", method="PUT", headers=headers
    )
    urllib.request.urlopen(request).close()


# --- Google ---


class Bucket(BaseHTTPRequestHandler):
    """As much of Google's XML interface as reading takes; a stand-in, since its emulators give no tags."""

    objects: dict[str, bytes]

    def do_GET(self) -> None:
        """List the bucket, or give one object."""
        url = urlsplit(self.path)
        _, bucket, *names = unquote(url.path).split("/")
        assert bucket == "box"
        if "list-type" in parse_qs(url.query):
            self._answer(self._listing(parse_qs(url.query).get("prefix", [""])[0]).encode())
        else:
            self._answer(self.objects["/".join(names)])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", _tag(body))
        self.send_header("Last-Modified", "Fri, 20 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def _listing(self, prefix: str) -> str:
        entries = "".join(
            f"<Contents><Key>{name}</Key><Size>{len(body)}</Size><ETag>{_tag(body)}</ETag>"
            "<LastModified>2026-11-20T00:00:00.000Z</LastModified></Contents>"
            for name, body in self.objects.items()
            if name.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def test_a_bucket_at_google_is_a_repository(tmp_path: Path) -> None:
    Bucket.objects = {f"models/{name}": content for name, content in FILES.items()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = Thread(target=server.serve_forever)
    thread.start()
    key = tmp_path / "key.json"
    nobody = dict.fromkeys(("private_key", "private_key_id", "client_email"), "")
    key.write_text(
        json.dumps(
            {"gcs_base_url": f"http://127.0.0.1:{server.server_port}", "disable_oauth": True, **nobody}
        )
    )
    try:
        with mock.patch.dict(
            os.environ, {"GOOGLE_APPLICATION_CREDENTIALS": "", "GOOGLE_SERVICE_ACCOUNT": str(key)}
        ):
            repository = ObjectRepository(parse_address("gs://box/models"), tmp_path / "cache")
            loads_and_follows(
                repository, lambda name, content: Bucket.objects.__setitem__(f"models/{name}", content)
            )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
