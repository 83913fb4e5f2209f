"""Models that break their contract fail their own requests, with what they did wrong, and nobody else's."""

from pathlib import Path

import numpy as np
import pytest

from .clients import Client
from .house import Server

pytestmark = pytest.mark.usefixtures("all_is_well")

PREFIX = "Failed to process the request(s) for model 'misbehaving_0', message: "
COUNTS = (
    "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
    "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:"
)
WRONG = {
    "answers too often": COUNTS + "2\n",
    "answers too seldom": COUNTS + "0\n",
    "answers with a text": "Expected a list in the execute return, found type '<class 'str'>'.",
    "answers with a number in the list": (
        "Expected an 'InferenceResponse' object in the execute function return list, "
        "found type '<class 'int'>'."
    ),
}
INTERNAL = {True: "500", False: "StatusCode.INTERNAL"}


def refusal(client: Client, how: str) -> tuple[str, str]:
    """Ask the model to do wrong; return status and message."""
    tensor = client.tensor("HOW", np.array([how.encode()], np.object_))
    return client.refusal("infer", "misbehaving", [tensor])


def test_the_model_can_behave(client: Client) -> None:
    result = client.infer("misbehaving", client.tensor("HOW", np.array([b"well"], np.object_)))
    assert result.as_numpy("OUT").tolist() == [b"well"]


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_answer_is_an_error_that_says_what_is_wrong(client: Client, how: str) -> None:
    assert refusal(client, how) == (INTERNAL[client.is_http], PREFIX + WRONG[how])


def test_an_exception_comes_with_its_text_and_its_place(client: Client, repository: Path) -> None:
    status, message = refusal(client, "raises")
    model = repository / "misbehaving" / "1" / "model.py"
    assert status == INTERNAL[client.is_http]
    assert message.startswith(f"{PREFIX}ValueError: no such luck\n\nAt:\n  {model}(")
    assert message.endswith("): execute\n")


def test_a_model_that_exits_does_not_end_the_server(client: Client) -> None:
    status, message = refusal(client, "exits")
    assert status == INTERNAL[client.is_http]
    assert message.startswith(f"{PREFIX}SystemExit: 3")


def test_an_error_that_a_model_answers_with_keeps_its_class(client: Client) -> None:
    assert refusal(client, "answers with an error") == (
        "404" if client.is_http else "StatusCode.NOT_FOUND",
        "not today",
    )


@pytest.mark.parametrize("how", ["does not answer", "has None in the list"])
def test_a_request_that_nobody_will_answer_does_not_wait_for_ever(client: Client, how: str) -> None:
    status, message = refusal(client, how)
    assert status == INTERNAL[client.is_http]
    assert message.startswith(PREFIX)


def test_an_output_of_another_datatype_is_passed_on_as_it_is(client: Client) -> None:
    """As in Triton, what a Python model answers is not held against its configuration."""
    result = client.infer(
        "misbehaving", client.tensor("HOW", np.array([b"has another datatype"], np.object_))
    )
    assert result.as_numpy("OUT").tolist() == [1.5]


def test_failures_count_as_failures(client: Client, house: Server) -> None:
    before = house.read_metric("nv_inference_request_failure", model="misbehaving")
    ran = house.read_metric("nv_inference_exec_count", model="misbehaving")
    for _ in range(3):
        refusal(client, "raises")
    assert house.read_metric("nv_inference_request_failure", model="misbehaving") == before + 3
    assert house.read_metric("nv_inference_exec_count", model="misbehaving") == ran + 3
