"""What goes over HTTP comes back: to Triton's own client, and in every datatype and form."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tritonclient.http as client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tritonclient.utils import np_to_triton_dtype

from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.kserve_http import decode_infer, encode_infer
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.output_forms import BINARY_FORM, JSON_FORM, OutputForm, OutputForms
from deuteron.proto.target import Target
from deuteron.proto.tensor import Array, Tensor

ONLY_BINARY = {Datatype.FP16, Datatype.BF16}
IN_JSON = [datatype for datatype in VALID_DATATYPES if datatype not in ONLY_BINARY]

SHAPES = npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, datatypes: Sequence[Datatype]) -> tuple[Datatype, Array]:
    """Draw a datatype and an array of its numpy type, strings being any bytes."""
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(SHAPES)
    if datatype is not Datatype.BYTES:
        return datatype, draw(npst.arrays(datatype.numpy_type, shape))
    elements = draw(st.lists(st.binary(max_size=6), min_size=math.prod(shape), max_size=math.prod(shape)))
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return datatype, array.reshape(shape)


def same(one: Array, other: Array) -> bool:
    """Whether arrays are the same in shape, type and every bit; one NaN is as good as another."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def sent(*inputs: client.InferInput, **options: Any) -> tuple[bytes, int | None]:  # noqa: ANN401
    """Return the body that Triton's client makes of inputs, and the length of its JSON."""
    return client.InferenceServerClient.generate_request_body(inputs, **options)  # type: ignore[no-any-return]


def received(target: Target, request: Request, response: Response, forms: OutputForms) -> client.InferResult:
    """Return what Triton's client makes of an answer."""
    answer = encode_infer(target, request, response, forms)
    body = b"".join([answer.head, *answer.blobs])
    return client.InferenceServerClient.parse_response_body(body, header_length=answer.json_length)


@given(st.lists(arrays(VALID_DATATYPES), min_size=1, max_size=4), st.data())
def test_inputs_of_tritons_client_are_decoded(
    target: Target, tensors: list[tuple[Datatype, Array]], data: st.DataObject
) -> None:
    """Binary and JSON inputs in any mixture, as `InferInput` spells them."""
    inputs = []
    for number, (datatype, array) in enumerate(tensors):
        each = client.InferInput(str(number), array.shape, datatype.wire_name)
        if datatype is Datatype.BF16:
            each._raw_data, each._parameters["binary_data_size"] = array.tobytes(), array.nbytes
        else:
            textual = datatype is Datatype.BYTES and not all(map(is_text, array.ravel()))
            binary = datatype in ONLY_BINARY or textual or data.draw(st.booleans())
            each.set_data_from_numpy(array, binary_data=binary)
        inputs.append(each)
    request, forms = decode_infer(*sent(*inputs), target)
    assert forms.of("any") == BINARY_FORM
    for number, (datatype, array) in enumerate(tensors):
        tensor = request.inputs[str(number)]
        assert (tensor.datatype, tensor.shape) == (datatype, array.shape)
        assert same(tensor.numpy(), array)


def is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(arrays(VALID_DATATYPES), st.booleans(), st.booleans())
def test_outputs_are_understood_by_tritons_client(
    target: Target, drawn: tuple[Datatype, Array], as_array: bool, want_binary: bool
) -> None:
    """Whether a model made an array or bytes came from elsewhere, in JSON or behind it."""
    datatype, array = drawn
    binary = want_binary or datatype in ONLY_BINARY
    if datatype is Datatype.BYTES and not all(map(is_text, array.ravel())):
        binary = True
    tensor = Tensor.from_numpy(array, datatype)
    if not as_array:
        tensor = Tensor(datatype, tensor.shape, bytes(tensor.raw))
    forms = OutputForms(BINARY_FORM if binary else JSON_FORM)
    result = received(target, Request("m", id="7"), Response({"OUT": tensor}), forms)
    output = result.get_output("OUT")
    assert (output["datatype"], tuple(output["shape"])) == (datatype.wire_name, array.shape)
    assert result.get_response()["id"] == "7"
    if datatype is Datatype.BF16:
        expected = (array.astype(np.uint32) << 16).view(np.float32)
        assert same(result.as_numpy("OUT").astype(np.float32), expected)
    else:
        found = result.as_numpy("OUT")
        if datatype is Datatype.BYTES and not binary:  # the client leaves strings of JSON as they are
            found = np.array([text.encode() for text in found.ravel()], dtype=np.object_).reshape(array.shape)
        assert same(found, array)


@given(arrays(IN_JSON))
def test_data_in_json_comes_back_to_the_bit(target: Target, drawn: tuple[Datatype, Array]) -> None:
    """Any bytes at all in strings, NaN and infinities among numbers: an answer can be sent as a request."""
    datatype, array = drawn
    response = Response({"OUT": Tensor.from_numpy(array, datatype)})
    answer = encode_infer(target, Request("m"), response, OutputForms(JSON_FORM))
    request, _ = decode_infer(answer.head.replace(b'"outputs"', b'"inputs"', 1), None, target)
    assert same(request.inputs["OUT"].numpy(), array)


def test_options_of_tritons_client_are_understood(target: Target) -> None:
    array = np.zeros((1, 2), dtype=np.float32)
    a = client.InferInput("A", array.shape, np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)
    outputs = [
        client.InferRequestedOutput("OUT", binary_data=True, class_count=2),
        client.InferRequestedOutput("TEXT", binary_data=False),
    ]
    body = sent(
        a,
        outputs=outputs,
        request_id="7",
        sequence_id="s",
        sequence_start=True,
        sequence_end=True,
        priority=2,
        timeout=100,
        parameters={"mine": "x"},
    )
    request, forms = decode_infer(*body, target)
    assert request.id == "7"
    assert request.correlation == Correlation("s", start=True, end=True)
    assert (request.priority, request.timeout_us) == (2, 100)
    assert request.parameters == {"mine": "x"}
    assert request.requested_outputs == ("OUT", "TEXT")
    assert forms.of("OUT") == OutputForm(binary=True, classes=2)
    assert forms.of("TEXT") == JSON_FORM


@pytest.mark.parametrize("binary", [True, False])
def test_classes_are_understood_by_tritons_client(target: Target, binary: bool) -> None:
    response = Response({"OUT": Tensor.from_numpy(np.array([[1, 3, 2]], dtype=np.float32))})
    forms = OutputForms(OutputForm(binary=binary, classes=2))
    found = received(target, Request("m"), response, forms).as_numpy("OUT")
    expected = ["3.000000:1", "2.000000:2:two"]
    assert found.tolist() == [[text.encode() if binary else text for text in expected]]
