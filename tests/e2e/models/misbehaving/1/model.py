"""Every way to break the contract of `execute`, by name."""

import sys
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import triton_python_backend_utils as pb_utils


def well() -> pb_utils.InferenceResponse:
    """Return a good response."""
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([b"well"], np.object_))])


def fail() -> NoReturn:
    """Raise."""
    raise ValueError("no such luck")


def refuse() -> pb_utils.InferenceResponse:
    """Return a response that is an error."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError("not today", pb_utils.TritonError.NOT_FOUND))


def other_datatype() -> pb_utils.InferenceResponse:
    """Return an output that is not what the configuration promises."""
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([1.5], np.float32))])


WAYS: dict[str, Callable[[], object]] = {
    "well": lambda: [well()],
    "raises": fail,
    "exits": lambda: sys.exit(3),
    "answers with an error": lambda: [refuse()],
    "answers too often": lambda: [well(), well()],
    "answers too seldom": list,
    "answers with a text": lambda: "well",
    "answers with a number in the list": lambda: [42],
    "does not answer": lambda: None,
    "has None in the list": lambda: [None],
    "has another datatype": lambda: [other_datatype()],
}


class TritonPythonModel:
    """Does what the first request says."""

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> object:
        """Behave, or not."""
        how = pb_utils.get_input_tensor_by_name(requests[0], "HOW").as_numpy()[0].decode()
        return WAYS[how]()
