"""Every datatype travels to a model and back unchanged, through each of Triton's clients, in each form."""

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import triton_to_np_dtype

from .clients import Array, Client
from .house import Server

INTEGERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
FLOATS = ("FP16", "FP32", "FP64")
BINARY_ONLY = ("FP16", "BF16")
VALUES: dict[str, Array] = {
    "BOOL": np.array([[True, False, True]]),
    **{
        name: np.array([[np.iinfo(kind).min, 1, np.iinfo(kind).max]], kind)
        for name in INTEGERS
        if (kind := triton_to_np_dtype(name))
    },
    **{
        name: np.array([[np.finfo(kind).min, 0.1, np.finfo(kind).max]], kind)
        for name in FLOATS
        if (kind := triton_to_np_dtype(name))
    },
    "BF16": np.array([[-1.5, 0.1, 2.0**100]], ml_dtypes.bfloat16),
    "BYTES": np.array([[b"", "é, ü and 語".encode(), b'\n\t"\\ \x7f']], np.object_),
}


@pytest.mark.parametrize("datatype", VALUES)
def test_a_value_comes_back_as_it_was_sent(client: Client, datatype: str) -> None:
    result = client.infer(
        "everything",
        client.tensor(f"INPUT_{datatype}", VALUES[datatype], datatype),
        outputs=[client.output(f"OUTPUT_{datatype}")],
    )
    returned = result.as_numpy(f"OUTPUT_{datatype}")
    assert returned.dtype == VALUES[datatype].dtype
    np.testing.assert_array_equal(returned, VALUES[datatype])


@pytest.fixture(params=["http", "http.aio"])
def http_client(request: pytest.FixtureRequest, house: Server) -> Iterator[Client]:
    with Client(request.param, house) as client:
        yield client


@pytest.mark.parametrize("answered_in_binary", [False, True])
@pytest.mark.parametrize("sent_in_binary", [False, True])
@pytest.mark.parametrize("datatype", [name for name in VALUES if name not in BINARY_ONLY])
def test_http_carries_a_value_as_json_or_binary_in_either_direction(
    http_client: Client, datatype: str, sent_in_binary: bool, answered_in_binary: bool
) -> None:
    name = f"OUTPUT_{datatype}"
    result = http_client.infer(
        "everything",
        http_client.tensor(f"INPUT_{datatype}", VALUES[datatype], datatype, binary_data=sent_in_binary),
        outputs=[http_client.output(name, binary_data=answered_in_binary)],
    )
    assert ("data" in result.get_output(name)) is not answered_in_binary
    returned = result.as_numpy(name)
    if datatype == "BYTES" and not answered_in_binary:
        returned = np.array(
            [[text.encode() for text in returned[0]]], np.object_
        )  # the client leaves JSON's texts
    np.testing.assert_array_equal(returned, VALUES[datatype])


def test_all_datatypes_go_in_one_request_json_and_binary_mixed(http_client: Client) -> None:
    binary = {name: name in BINARY_ONLY or "8" in name or name == "BYTES" for name in VALUES}
    result = http_client.infer(
        "everything",
        *(
            http_client.tensor(f"INPUT_{name}", array, name, binary_data=binary[name])
            for name, array in VALUES.items()
        ),
        outputs=[http_client.output(f"OUTPUT_{name}", binary_data=binary[name]) for name in VALUES],
    )
    for name, array in VALUES.items():
        np.testing.assert_array_equal(result.as_numpy(f"OUTPUT_{name}"), array)


def test_all_datatypes_come_back_in_the_models_order(client: Client) -> None:
    names = list(VALUES)[::-1]
    result = client.infer(
        "everything",
        *(client.tensor(f"INPUT_{name}", VALUES[name], name) for name in names),
        outputs=[client.output(f"OUTPUT_{name}") for name in names],
    )
    response = result.get_response() if client.is_http else result.get_response(as_json=True)
    configured = client.tell("get_model_metadata", "everything")["outputs"]
    assert [each["name"] for each in response["outputs"]] == [each["name"] for each in configured]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_a_tensor_without_elements_keeps_its_shape(
    client: Client, datatype: str, shape: tuple[int, ...]
) -> None:
    array = np.empty(shape, triton_to_np_dtype(datatype))
    result = client.infer(
        "everything",
        client.tensor(f"INPUT_{datatype}", array, datatype),
        outputs=[client.output(f"OUTPUT_{datatype}")],
    )
    assert result.as_numpy(f"OUTPUT_{datatype}").shape == shape


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # the client's own
@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_megabytes_come_back_whole(client: Client, datatype: str) -> None:
    raw = np.random.default_rng(1).integers(0, 256, (5, 1 << 20), np.uint8)
    array = raw if datatype == "UINT8" else np.array([[row.tobytes() for row in raw]], np.object_)
    result = client.infer(
        "everything",
        client.tensor(f"INPUT_{datatype}", array, datatype),
        outputs=[client.output(f"OUTPUT_{datatype}")],
    )
    np.testing.assert_array_equal(result.as_numpy(f"OUTPUT_{datatype}"), array)
