"""What a server has done can be seen from outside: counted, logged and traced."""

from queue import SimpleQueue
from typing import Any

import numpy as np
import tritonclient.grpc

from .clients import Client
from .house import Server

TIMEOUT_S = 20


def repeat(server: Server, *values: int, responses: int) -> None:
    """Ask the model that streams for a response to each value, and wait for so many responses."""
    told: SimpleQueue[Any] = SimpleQueue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: told.put(error or result))
        tensor = tritonclient.grpc.InferInput("IN", [len(values)], "INT32")
        tensor.set_data_from_numpy(np.array(values, np.int32))
        client.async_stream_infer("repeat", [tensor], enable_empty_final_response=True)
        for _ in range(responses):
            told.get(timeout=TIMEOUT_S)
        client.stop_stream()


def test_responses_of_a_model_that_streams_are_counted_by_their_index(house: Server) -> None:
    def counts() -> dict[tuple[str, str], int]:
        with Client("http", house) as client:
            (told,) = client.tell("get_inference_statistics", "repeat")["model_stats"]
        return {
            (index, kind): duration["count"]
            for index, response in told["response_stats"].items()
            for kind, duration in response.items()
        }

    before = counts()
    repeat(house, 5, 6, -1, responses=4)
    more = {key: count - before.get(key, 0) for key, count in counts().items()}
    assert {key: count for key, count in more.items() if count} == {
        ("0", "compute_infer"): 1,
        ("0", "compute_output"): 1,
        ("0", "success"): 1,
        ("1", "compute_infer"): 1,
        ("1", "compute_output"): 1,
        ("1", "success"): 1,
        ("2", "compute_infer"): 1,
        ("2", "fail"): 1,
        ("3", "compute_infer"): 1,
        ("3", "empty_response"): 1,
    }
    with Client("grpc", house) as client:
        (told,) = client.tell("get_inference_statistics", "repeat")["model_stats"]
    assert int(told["response_stats"]["0"]["success"]["count"]) >= 1


def test_first_responses_are_in_a_histogram(house: Server) -> None:
    name = "nv_inference_first_response_histogram_ms"
    before = house.read_metric(f"{name}_count", model="repeat")
    repeat(house, 5, 6, responses=3)
    assert house.read_metric(f"{name}_count", model="repeat") == before + 1
    assert house.read_metric(f"{name}_bucket", model="repeat", le="+Inf") == before + 1
