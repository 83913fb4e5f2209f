"""Requests that no model can serve get the same message over both protocols, and harm nobody else.

Each is sent with its tensors in binary form. What only one protocol can get wrong has a file of its own.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from .house import Server
from .wire import call_infer, infer_binary

pytestmark = pytest.mark.usefixtures("all_is_well")

BATCHES = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)
UNKNOWN = "[request id: <id_unknown>] "


@dataclass(frozen=True)
class Input:
    """One input; by default a row of 16 INT32."""

    name: str
    shape: Sequence[int] = (1, 16)
    datatype: str = "INT32"
    data: bytes = bytes(64)


@dataclass(frozen=True)
class Bad:
    """A request for `add_sub`, or another model, that is refused with a message."""

    message: str
    inputs: Sequence[Input] = (Input("INPUT0"), Input("INPUT1"))
    model: str = "add_sub"
    version: str = ""
    outputs: Sequence[str] = ()
    id: str = ""
    statuses: tuple[int, grpc.StatusCode] = field(default=(400, grpc.StatusCode.INVALID_ARGUMENT))


NOT_FOUND = (404, grpc.StatusCode.NOT_FOUND)


def string(text: bytes) -> bytes:
    """Return a BYTES element as it lies in a tensor."""
    return struct.pack("<I", len(text)) + text


def everything(datatype: str, shape: Sequence[int], data: bytes, message: str) -> Bad:
    """Ask the model of all datatypes."""
    return Bad(message, [Input(f"INPUT_{datatype}", shape, datatype, data)], model="everything")


BAD = {
    "an unknown model": Bad(
        "Request for unknown model: 'nobody' is not found", model="nobody", statuses=NOT_FOUND
    ),
    "an unknown version": Bad(
        "Request for unknown model: 'add_sub' version 7 is not found", version="7", statuses=NOT_FOUND
    ),
    "a version that was not selected": Bad(
        "Request for unknown model: 'versioned' version 2 is not found",
        model="versioned",
        version="2",
        statuses=NOT_FOUND,
    ),
    "an unknown output": Bad(
        "unexpected inference output 'OUT' for model 'add_sub'", outputs=["OUTPUT0", "OUT"]
    ),
    "an unknown input": Bad(
        "unexpected inference input 'INPUT2' for model 'add_sub'", [Input("INPUT0"), Input("INPUT2")]
    ),
    "too few inputs": Bad(
        UNKNOWN
        + "expected 2 inputs but got 1 inputs for model 'add_sub'. Got input(s) ['INPUT0'], but missing "
        "required input(s) ['INPUT1']. Please provide all required input(s).",
        [Input("INPUT0")],
    ),
    "no inputs": Bad(
        UNKNOWN + "expected 2 inputs but got 0 inputs for model 'add_sub'. Got input(s) [], but missing "
        "required input(s) ['INPUT0','INPUT1']. Please provide all required input(s).",
        [],
    ),
    "too many inputs": Bad(
        UNKNOWN + "expected 2 inputs but got 3 inputs for model 'add_sub'. Got input(s) ['INPUT0','INPUT1',"
        "'INPUT2'], but missing required input(s) ]. Please provide all required input(s).",
        [Input("INPUT0"), Input("INPUT1"), Input("INPUT2")],
    ),
    "an input twice": Bad(
        UNKNOWN + "input 'INPUT0' already exists in request", [Input("INPUT0"), Input("INPUT0")]
    ),
    "an output twice": Bad(
        UNKNOWN + "output 'OUTPUT0' already exists in request", outputs=["OUTPUT0", "OUTPUT0"]
    ),
    "a wrong datatype": Bad(
        UNKNOWN + "inference input 'INPUT1' data-type is 'FP32', but model 'add_sub' expects 'INT32'",
        [Input("INPUT0"), Input("INPUT1", datatype="FP32")],
    ),
    "a wrong shape": Bad(
        UNKNOWN
        + "unexpected shape for input 'INPUT1' for model 'add_sub'. Expected [-1,16], got [1,17]. "
        + BATCHES,
        [Input("INPUT0"), Input("INPUT1", (1, 17), data=bytes(68))],
    ),
    "too many dimensions": Bad(
        "[request id: r7] unexpected shape for input 'HOW' for model 'misbehaving'. Expected [1], "
        "got [1,1]. ",
        [Input("HOW", (1, 1), "BYTES", string(b"well"))],
        model="misbehaving",
        id="r7",
    ),
    "too few bytes": Bad(
        UNKNOWN + "input byte size mismatch for input 'INPUT1' for model 'add_sub'. Expected 64, got 60",
        [Input("INPUT0"), Input("INPUT1", data=bytes(60))],
    ),
    "too many bytes": Bad(
        UNKNOWN + "input byte size mismatch for input 'INPUT1' for model 'add_sub'. Expected 64, got 65",
        [Input("INPUT0"), Input("INPUT1", data=bytes(65))],
    ),
    "a batch that is too large": Bad(
        UNKNOWN + "inference request batch-size must be <= 8 for 'add_sub'",
        [Input("INPUT0", (9, 16), data=bytes(576)), Input("INPUT1", (9, 16), data=bytes(576))],
    ),
    "batches of different size": Bad(
        UNKNOWN + "input 'INPUT0' batch size does not match other inputs for 'add_sub'",
        [Input("INPUT0"), Input("INPUT1", (2, 16), data=bytes(128))],
    ),
    "no shape": Bad(
        UNKNOWN + "input 'INPUT0' has no shape but model requires batch dimension for 'add_sub'",
        [Input("INPUT0", (), data=bytes(4)), Input("INPUT1")],
    ),
    "too few strings": everything(
        "BYTES",
        (1, 2),
        string(b"one"),
        UNKNOWN
        + "expected 2 string elements for inference input 'INPUT_BYTES' for model 'everything', got 1",
    ),
    "too many strings": everything(
        "BYTES",
        (1, 1),
        string(b"one") + string(b"two"),
        UNKNOWN
        + "unexpected number of string elements 2 for inference input 'INPUT_BYTES' for model 'everything', "
        "expecting 1",
    ),
    "a string that is cut off": everything(
        "BYTES",
        (1, 1),
        string(b"one")[:-1],
        "incomplete string data for inference input 'INPUT_BYTES', expecting string of length 3 but "
        "only 2 bytes available",
    ),
    "half the length of a string": everything(
        "BYTES",
        (1, 1),
        b"\x01\x00",
        UNKNOWN
        + "incomplete string length indicator for inference input 'INPUT_BYTES' for model 'everything', "
        "expecting 4 bytes but only 2 bytes available. Please make sure the string length indicator is in "
        "one buffer.",
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_http_refuses(house: Server, bad: Bad) -> None:
    path = f"{bad.model}/versions/{bad.version}" if bad.version else bad.model
    head = {
        "id": bad.id,
        "inputs": [
            {
                "name": each.name,
                "shape": list(each.shape),
                "datatype": each.datatype,
                "parameters": {"binary_data_size": len(each.data)},
            }
            for each in bad.inputs
        ],
        "outputs": [{"name": name} for name in bad.outputs],
    }
    blobs = b"".join(each.data for each in bad.inputs)
    assert infer_binary(house.http, path, head, blobs) == (bad.statuses[0], {"error": bad.message})


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_grpc_refuses(house: Server, bad: Bad) -> None:
    message = pb.ModelInferRequest(model_name=bad.model, model_version=bad.version, id=bad.id)
    for each in bad.inputs:
        message.inputs.add(name=each.name, shape=each.shape, datatype=each.datatype)
        message.raw_input_contents.append(each.data)
    for name in bad.outputs:
        message.outputs.add(name=name)
    assert call_infer(house.grpc, message) == (bad.statuses[1], bad.message)
