"""A model is loaded anew again and again under constant load, and nobody who asks it fails."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .clients import Client
from .house import Server
from .wire import SERVICE

CONNECTIONS = 16
RELOADS = 50
BODY = json.dumps(
    {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()
BROKEN = 'parameters { key: "fail_load" value { string_value: "broken on purpose" } }'


def ask_http(server: Server, done: threading.Event) -> Iterator[str]:
    """Ask over one connection until told to stop; yield what came back."""
    connection = http.client.HTTPConnection(server.http, timeout=20)
    try:
        while not done.is_set():
            connection.request("POST", "/v2/models/echo/infer", BODY)
            response = connection.getresponse()
            response.read()
            yield str(response.status)
    finally:
        connection.close()


def ask_grpc(server: Server, done: threading.Event) -> Iterator[str]:
    """Ask over one channel until told to stop; yield what came back."""
    message = pb.ModelInferRequest(model_name="echo")
    tensor = message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 2, 3, 4])
    asked = message.SerializeToString()
    with grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        rpc = channel.unary_unary(f"/{SERVICE}/ModelInfer", None, None)
        while not done.is_set():
            try:
                rpc(asked, timeout=20)
                yield "200"
            except grpc.RpcError as error:
                yield f"{error.code()}: {error.details()}"


@contextmanager
def under_load(server: Server) -> Iterator[list[str]]:
    """Have all connections ask for the length of the block, half of each protocol; yield their answers."""
    done = threading.Event()
    answers: list[str] = []
    askers = [
        threading.Thread(target=lambda ask=ask: answers.extend(ask(server, done)))
        for ask in (ask_http, ask_grpc)
        for _ in range(CONNECTIONS // 2)
    ]
    for asker in askers:
        asker.start()
    try:
        yield answers
    finally:
        done.set()
        for asker in askers:
            asker.join()


@pytest.mark.parametrize("broken", [False, True], ids=["all good", "every second broken"])
def test_fifty_reloads_under_load_fail_no_request(
    pick: Callable[..., Path], serve: Callable[..., Server], broken: bool
) -> None:
    """Each reload builds the model from changed files; where it cannot, the reason is told to the loader."""
    model = pick("echo") / "echo"
    good = (model / "config.pbtxt").read_text()
    server = serve(model.parent, "--model-control-mode=explicit", "--load-model=*")
    loads = server.logged().count("model is ready")
    with Client("http", server) as client, under_load(server) as answers:
        for number in range(RELOADS):
            (model / "1" / "weights").write_text(str(number))
            if broken and number % 2:
                (model / "config.pbtxt").write_text(good + BROKEN)
                _, message = client.refusal("load_model", "echo")
                assert "version 1 is at UNAVAILABLE state: Internal: broken on purpose" in message
            else:
                (model / "config.pbtxt").write_text(good)
                client.call("load_model", "echo")
    assert server.logged().count("model is ready") - loads == (RELOADS // 2 if broken else RELOADS)
    assert len(answers) > RELOADS
    assert set(answers) == {"200"}
