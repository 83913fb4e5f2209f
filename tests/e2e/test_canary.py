"""A new version is tried on a part of the requests that clients send to a whole server."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .clients import LIBRARIES, Client
from .house import Server, poll

Serve = Callable[..., Server]

POLICY = """
parameters { key: "canary.share" value { string_value: "0.5" } }
parameters { key: "canary.parameter" value { string_value: "x-cohort=beta" } }
parameters { key: "canary.min_requests" value { string_value: "20" } }
parameters { key: "canary.seconds" value { string_value: "1" } }
"""
FORWARD = ("--http-header-forward-pattern=^x-", "--grpc-header-forward-pattern=^x-")


@pytest.mark.parametrize("library", LIBRARIES)
def test_clients_are_told_which_version_answered_until_the_new_one_is_promoted(
    pick: Callable[..., Path], serve: Serve, library: str
) -> None:
    models = pick("echo")
    server = serve(models, "--model-control-mode=explicit", "--load-model=echo", *FORWARD)
    shutil.copytree(models / "echo" / "1", models / "echo" / "2")
    with (models / "echo" / "config.pbtxt").open("a") as config:
        config.write(POLICY)
    with Client(library, server) as client:
        client.call("load_model", "echo")
        row = client.tensor("INPUT0", np.ones((1, 4), np.float32))

        def asked(**settings: object) -> str:
            response = client.infer("echo", row, **settings).get_response()
            return str(response["model_version"] if isinstance(response, dict) else response.model_version)

        versions = [asked() for _ in range(10)]
        assert sorted(versions) == ["1"] * 5 + ["2"] * 5
        assert {asked(headers={"x-cohort": "beta"}) for _ in range(4)} == {"2"}
        assert server.read_metric("deuteron_canary_share", model="echo") == 0.5
        assert server.read_metric("deuteron_canary_answers", arm="new", outcome="good") == 9
        for _ in range(40):
            asked()
        poll(
            lambda: server.read_metric("deuteron_canary_verdicts", verdict="promoted") == 1, "it is promoted"
        )
        assert {asked() for _ in range(4)} == {"2"}
