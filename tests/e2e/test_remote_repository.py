"""A server whose models lie in an S3 bucket: they load, change, and outlive an outage of the store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..object_store import CREDENTIALS, S3, s3_server
from .house import Server, poll
from .wire import ask

CONFIG = """
backend: "identity"
version_policy { all { } }
input [{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }]
output [{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }]
"""
ROW = {"inputs": [{"name": "INPUT0", "datatype": "INT32", "shape": [1], "data": [7]}]}


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def serves(server: Server, path: str) -> Callable[[], bool]:
    return lambda: ask(server.http, f"POST /v2/models/{path}/infer", ROW).status == 200


def test_a_bucket_is_polled_through_an_outage(
    s3: S3, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    s3.put({"far/config.pbtxt": CONFIG, "far/1/nothing": ""})
    server = serve(
        s3.address(),
        "--model-control-mode=poll",
        "--repository-poll-secs=1",
        f"--repository-cache={tmp_path / 'cache'}",
    )
    assert serves(server, "far")()
    assert not serves(server, "far/versions/2")()
    s3.put({"far/2/nothing": ""})
    poll(serves(server, "far/versions/2"), "a new version in the bucket is served")
    s3.stop()
    poll(lambda: "stays as it was last seen" in server.logged(), "the outage is noticed", within=60)
    assert serves(server, "far/versions/2")()
    s3.start()
    s3.put({"far/3/nothing": "", "near/config.pbtxt": CONFIG, "near/1/nothing": ""})
    poll(serves(server, "far/versions/3"), "after the outage the bucket is followed again")
    poll(serves(server, "near"), "and a new model is served")
    s3.delete("near/config.pbtxt", "near/1/nothing")
    poll(lambda: not serves(server, "near")(), "and one that is gone is not")


def test_a_model_is_loaded_from_a_bucket_when_it_is_asked_for(
    s3: S3, serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    s3.put(
        {f"{model}/{file}": CONFIG for model in ("far", "other") for file in ("config.pbtxt", "1/nothing")}
    )
    cache = tmp_path / "cache"
    server = serve(s3.address(), "--model-control-mode=explicit", f"--repository-cache={cache}")
    assert {each["name"] for each in ask(server.http, "POST /v2/repository/index").body} == {"far", "other"}
    assert not (cache / "models").exists()
    assert ask(server.http, "POST /v2/repository/models/far/load").status == 200
    assert serves(server, "far")()
    s3.stop()
    assert ask(server.http, "POST /v2/repository/models/far/unload").status == 200
    assert ask(server.http, "POST /v2/repository/models/far/load").status == 200
    refused = ask(server.http, "POST /v2/repository/models/other/load")
    assert refused.status != 200
    s3.start()
