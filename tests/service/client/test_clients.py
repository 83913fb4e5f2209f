"""Clients of one model: what they send, what they give back, and what they raise."""

import asyncio
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest

from deuteron import (
    AsyncioDecoupledModelClient,
    AsyncioModelClient,
    BatchingNotSupportedError,
    ClientClosedError,
    ClientError,
    ClientTimeoutError,
    ClientValueError,
    DecoupledModelClient,
    FuturesModelClient,
    InferenceServerError,
    InvalidUrlError,
    ModelClient,
    ModelUnavailableError,
    QueueFullError,
    Server,
    ServerUnreachableError,
)
from deuteron.proto.datatypes import Datatype
from deuteron.service.client.address import Address
from deuteron.service.client.model_spec import ModelSpec, TensorSpec

ROWS = np.array([[1, 2], [3, 4]], np.float32)
ONE = np.array([1], np.float32)


def lists(outputs: dict[str, Any]) -> dict[str, Any]:
    """Return outputs as plain lists."""
    return {name: value.tolist() for name, value in outputs.items()}


# --- one answer ---


def test_a_batch_goes_in_and_a_batch_comes_out(url: str) -> None:
    with ModelClient(url, "add_sub") as client:
        expected = {"add": [[2, 4], [6, 8]], "sub": [[0, 0], [0, 0]]}
        assert lists(client.infer_batch(ROWS, ROWS)) == expected
        assert lists(client.infer_batch(b=ROWS, a=ROWS)) == expected


def test_a_sample_has_no_batch_dimension_on_either_way(url: str) -> None:
    with ModelClient(url, "add_sub") as client:
        assert lists(client.infer_sample(ROWS[0], ROWS[1])) == {"add": [4, 6], "sub": [-2, -2]}
    with ModelClient(url, "upper") as client:
        assert client.infer_sample(np.array([b"ab", b"c\x00"], np.object_))["y"].tolist() == [b"AB", b"C\x00"]


def test_what_is_no_array_becomes_one_of_the_datatype_of_the_input(url: str) -> None:
    with ModelClient(url, "add_sub") as client:
        assert client.infer_sample([1], (2,))["add"].dtype == np.float32
    with ModelClient(url, "upper") as client:
        assert client.infer_sample(["ä"])["y"].tolist() == ["ä".encode().upper()]


def test_optional_inputs_may_be_left_out(url: str) -> None:
    with ModelClient(url, "add_sub") as client:
        assert lists(client.infer_sample(ONE, ONE)) == {"add": [2], "sub": [0]}
        assert lists(client.infer_sample(ONE, ONE, ONE)) == {"add": [3], "sub": [1]}
        assert lists(client.infer_sample(bias=ONE, a=ONE, b=ONE)) == {"add": [3], "sub": [1]}


def test_parameters_and_headers_come_to_the_function(url: str) -> None:
    with ModelClient(url, "scale") as client:
        answer = client.infer_sample([6], parameters={"times": 2}, headers={"header_by": 3})
        assert answer["y"].tolist() == [4]


def test_a_client_knows_its_model(url: str) -> None:
    with ModelClient(url, "add_sub") as client:
        assert client.is_batching_supported
        spec = client.model_config
        assert (spec.name, spec.max_batch_size, spec.decoupled) == ("add_sub", 8, False)
        assert spec.inputs[2] == TensorSpec("bias", Datatype.FP32, (-1,), optional=True)
        assert [each.name for each in spec.outputs] == ["add", "sub"]
        with ModelClient.from_existing_client(client) as other:
            assert other.model_config is spec
            assert other.infer_sample([1], [2])["add"].tolist() == [3]


def test_a_version_may_be_asked_for(url: str) -> None:
    with ModelClient(url, "add_sub", "1") as client:
        assert client.infer_sample([1], [2])["add"].tolist() == [3]
    with ModelClient(url, "add_sub", 2, init_timeout_s=0.2) as client, pytest.raises(ModelUnavailableError):
        client.infer_sample([1], [2])


# --- what it raises ---


@pytest.mark.parametrize(
    ("positional", "named", "text"),
    [
        ((), {}, "cannot be asked without inputs"),
        (([1],), {"b": [1]}, "by their places or by their names, not by both"),
        (([1], [1], [1], [1]), {}, "has 3 inputs, and 4 are given"),
        ((), {"a": [1], "c": [1]}, "has no input 'c'; it has a, b, bias"),
        ((["text"], [1]), {}, "input 'a' cannot be made an array"),
        ((np.zeros(1, np.complex64), [1]), {}, "an array of complex64"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anybody_is_asked(
    positional: tuple[Any, ...], named: dict[str, Any], text: str
) -> None:
    number = {"data_type": "TYPE_FP32", "dims": ["-1"]}
    inputs = [{"name": name, **number} for name in ("a", "b", "bias")]
    spec = ModelSpec.from_json({"name": "add_sub", "max_batch_size": 8, "input": inputs})
    client = ModelClient("localhost:1", "add_sub", model_config=spec)
    with client, pytest.raises(ClientValueError, match=text):
        client.infer_sample(*positional, **named)


def test_a_parameter_that_cannot_be_sent_is_refused(url: str) -> None:
    with ModelClient(url, "scale") as client, pytest.raises(ClientValueError, match="'times' is a list"):
        client.infer_sample([1], parameters={"times": [1]})  # type: ignore[dict-item] # wrong on purpose


def test_a_batch_for_a_model_without_batches_is_refused(url: str) -> None:
    with ModelClient(url, "upper") as client, pytest.raises(BatchingNotSupportedError, match="infer_sample"):
        client.infer_batch([["a"]])


def test_what_the_model_answers_instead_is_raised(url: str) -> None:
    with ModelClient(url, "fail") as client, pytest.raises(InferenceServerError, match="no such luck"):
        client.infer_sample([1])
    with (
        ModelClient(url, "add_sub") as client,
        pytest.raises(InferenceServerError, match="batch-size must be <= 8"),
    ):
        client.infer_batch(np.zeros((9, 1), np.float32), np.zeros((9, 1), np.float32))


def test_an_answer_that_does_not_come_in_time_is_not_waited_for(url: str) -> None:
    client = ModelClient(url, "never", inference_timeout_s=0.2)
    with client, pytest.raises(ClientTimeoutError, match=r"did not answer within 0\.2 seconds"):
        client.infer_sample([1])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there_is_waited_for_no_longer_than_agreed(nobody: str, scheme: str) -> None:
    with ModelClient(f"{scheme}://{nobody}", "add_sub", init_timeout_s=0.3) as client:
        with pytest.raises(ClientTimeoutError, match="nobody answered at"):
            client.infer_sample([1], [1])
        with pytest.raises(ClientTimeoutError, match="nobody answered at"):
            client.wait_for_server(0.1)
        with pytest.raises(ServerUnreachableError):
            client.unload_model()
    with pytest.raises(ClientTimeoutError):
        ModelClient(f"{scheme}://{nobody}", "add_sub", init_timeout_s=0.1, lazy_init=False)


def test_a_model_that_is_not_there_is_told_from_a_server_that_is_not(url: str) -> None:
    with ModelClient(url, "nobody") as client:
        client.wait_for_server()
        with pytest.raises(ModelUnavailableError, match="'nobody' was not ready"):
            client.wait_for_model(0.1)


def test_a_model_is_loaded_and_unloaded_where_the_server_lets_clients(url: str, server: Server) -> None:
    with ModelClient(url, "scale", lazy_init=False) as client:
        client.unload_model()
        assert not server.model("scale").is_ready()
        client.load_model()
        client.wait_for_model(5)
        assert server.model("scale").is_ready()


def test_a_client_that_is_closed_cannot_be_asked(url: str) -> None:
    client = ModelClient(url, "add_sub")
    assert client.infer_sample([1], [1])
    client.close()
    client.close()
    with pytest.raises(ClientClosedError, match="'add_sub' is closed"):
        client.infer_sample([1], [1])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost", "http://localhost:8000"),
        ("localhost:9", "http://localhost:9"),
        ("grpc://host", "grpc://host:8001"),
        ("grpcs://host", "grpcs://host:8001"),
        ("https://host:1/", "https://host:1"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_a_url_says_protocol_host_and_port(url: str, expected: str) -> None:
    assert str(Address.parse(url)) == expected


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://host:x", "http://host:99999", "host/path?q"]
)
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    with pytest.raises(InvalidUrlError, match=r"is no URL|has scheme"):
        ModelClient(url, "model")


# --- futures ---


def test_futures_are_kept_beside_each_other(url: str) -> None:
    with FuturesModelClient(url, "add_sub") as client:
        futures = [client.infer_sample([number], [1]) for number in range(20)]
        batch = client.infer_batch(ROWS, ROWS)
        assert [future.result()["add"].item() for future in futures] == list(range(1, 21))
        assert batch.result()["add"].tolist() == [[2, 4], [6, 8]]
        assert client.model_config().result().name == "add_sub"
        assert client.wait_for_model().result() is None


def test_no_more_requests_are_on_their_way_than_may_be(url: str) -> None:
    client = FuturesModelClient(url, "never", max_queue_size=2, non_blocking=True)
    waiting = [client.infer_sample([number]) for number in range(2)]
    with pytest.raises(QueueFullError):
        client.infer_sample([2])
    waiting[0].cancel()
    retried = _retried(client)
    client.close(wait=False)
    for future in (*waiting, retried):
        with pytest.raises((CancelledError, ClientError)):
            future.result()


def _retried(client: FuturesModelClient) -> "Future[Any]":
    """Ask as soon as there is room again: that a request was cancelled is told on another thread."""
    while True:
        try:
            return client.infer_sample([2])
        except QueueFullError:
            continue


# --- with a loop ---


async def test_requests_of_one_loop_go_on_beside_each_other(url: str) -> None:
    async with AsyncioModelClient(url, "add_sub", lazy_init=False) as client:
        answers = await asyncio.gather(*(client.infer_sample([number], [1]) for number in range(20)))
        assert [answer["add"].item() for answer in answers] == list(range(1, 21))
        assert (await client.infer_batch(ROWS, ROWS))["sub"].tolist() == [[0, 0], [0, 0]]
        assert (await client.model_config).supports_batching
        async with AsyncioModelClient.from_existing_client(client) as other:
            assert (await other.infer_sample([1], [1]))["add"].tolist() == [2]


async def test_who_stops_waiting_leaves_the_look_up_to_the_others(url: str) -> None:
    async with AsyncioModelClient(url, "add_sub") as client:
        first = asyncio.create_task(client.infer_sample([1], [1]))
        second = asyncio.create_task(client.infer_sample([2], [2]))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second)["add"].tolist() == [4]


# --- any number of answers ---


def test_answers_come_one_by_one(grpc_url: str) -> None:
    with DecoupledModelClient(grpc_url, "count") as client:
        assert [answer["y"].tolist() for answer in client.infer_sample([3])] == [[0], [1], [2]]
        assert list(client.infer_sample(x=[0])) == []
    with DecoupledModelClient(grpc_url, "count_batch") as client:
        assert [answer["y"].tolist() for answer in client.infer_sample([2])] == [[0], [1]]
        assert [answer["y"].shape for answer in client.infer_batch([[1], [1]])] == [(2, 1)]


async def test_answers_come_one_by_one_with_a_loop(grpc_url: str) -> None:
    async with AsyncioDecoupledModelClient(grpc_url, "count") as client:
        assert [answer["y"].tolist() async for answer in client.infer_sample([2])] == [[0], [1]]
    async with AsyncioDecoupledModelClient(grpc_url, "count_batch") as client:
        assert [answer["y"].tolist() async for answer in client.infer_batch([[1]])] == [[[0]]]


def test_a_stream_that_is_left_early_is_cancelled(grpc_url: str) -> None:
    with DecoupledModelClient(grpc_url, "count") as client:
        answers = client.infer_sample([1e9])
        assert next(answers)["y"].tolist() == [0]
        answers.close()
        assert [answer["y"].tolist() for answer in client.infer_sample([1])] == [[0]]


def test_what_ends_a_stream_is_raised_after_what_it_brought(grpc_url: str) -> None:
    with DecoupledModelClient(grpc_url, "count") as client:
        answers = client.infer_sample([-2])
        assert [next(answers)["y"].item() for _ in range(2)] == [0, 1]
        with pytest.raises(InferenceServerError, match="no more"):
            next(answers)


def test_each_kind_of_client_says_which_models_are_not_its_own(grpc_url: str, server: Server) -> None:
    with (
        ModelClient(grpc_url, "count") as client,
        pytest.raises(ClientValueError, match="a decoupled client"),
    ):
        client.infer_sample([1])
    http = f"http://{server.addresses['HTTPService']}"
    with DecoupledModelClient(http, "count") as client, pytest.raises(ClientError, match="over gRPC"):
        next(client.infer_sample([1]))
    with DecoupledModelClient(grpc_url, "upper") as client:
        assert [answer["y"].tolist() for answer in client.infer_sample(["a"])] == [[b"A"]]
