"""Raw binary requests: a body that is nothing but the data of a model's only input."""

from collections.abc import Callable

import pytest

from deuteron.proto.admission import Admission
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.kserve_http import decode_infer
from deuteron.proto.output_forms import BINARY_FORM
from deuteron.proto.target import Target

Targeted = Callable[[str], Target]

RID = "[request id: <id_unknown>] "

RAW = {
    "fixed": ('input { name: "A" data_type: TYPE_FP32 dims: [2, 2] }', bytes(16), (2, 2)),
    "variable": ('input { name: "A" data_type: TYPE_FP32 dims: [-1, 2] }', bytes(24), (3, 2)),
    "empty": ('input { name: "A" data_type: TYPE_FP32 dims: -1 }', b"", (0,)),
    "batching": ('max_batch_size: 4 input { name: "A" data_type: TYPE_INT8 dims: -1 }', b"abc", (1, 3)),
    "text": ('max_batch_size: 4 input { name: "A" data_type: TYPE_STRING dims: 1 }', b"abc", (1, 1)),
}


@pytest.mark.parametrize(("text", "body", "shape"), RAW.values(), ids=RAW)
def test_the_shape_of_a_raw_request_is_deduced(
    targeted: Targeted, text: str, body: bytes, shape: tuple[int, ...]
) -> None:
    model = targeted(f'name: "m" {text}')
    request, forms = decode_infer(body, 0, model)
    Admission(model.config).check(request)
    assert request.inputs["A"].shape == shape
    elements = request.inputs["A"].numpy().tolist()
    assert elements == [[b"abc"]] if request.inputs["A"].datatype is Datatype.BYTES else elements is not None
    assert forms.of("OUT") == BINARY_FORM


def test_an_empty_body_is_a_raw_request_whatever_the_header(targeted: Targeted) -> None:
    model = targeted('name: "m" input { name: "A" data_type: TYPE_FP32 dims: -1 }')
    request, _ = decode_infer(b"", None, model)
    assert request.inputs["A"].shape == (0,)


RAW_REFUSED = {
    "two inputs": (
        'input { name: "A" } input { name: "B" }',
        b"",
        (
            f"{RID}Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'm' model "
            "configuration"
        ),
    ),
    "two variable dimensions": (
        'input { name: "A" data_type: TYPE_INT8 dims: [-1, 2, -1] }',
        b"ab",
        (
            f"{RID}The shape of the raw input 'A' can not be deduced because there are more than one "
            "variable-sized dimension"
        ),
    ),
    "many strings": (
        'input { name: "A" data_type: TYPE_STRING dims: 2 }',
        b"ab",
        f"{RID}For BYTE datatype raw input 'A', the model must have input shape [1]",
    ),
    "strings of any number": (
        'input { name: "A" data_type: TYPE_STRING dims: -1 }',
        b"ab",
        f"{RID}For BYTE datatype raw input 'A', the model must have input shape [1]",
    ),
    "too large": (
        'input { name: "A" data_type: TYPE_INT8 dims: -1 }',
        bytes(1001),
        (
            "Raw input has a byte_size (1001 bytes) that exceeds the maximum allowed value of 1000 bytes. "
            "Use --http-max-input-size to increase the limit."
        ),
    ),
    "bytes left over": (
        'input { name: "A" data_type: TYPE_INT16 dims: [-1, 2] }',
        bytes(7),
        f"{RID}input byte size mismatch for input 'A' for model 'm'. Expected 4, got 7",
    ),
}


@pytest.mark.parametrize(("text", "body", "message"), RAW_REFUSED.values(), ids=RAW_REFUSED)
def test_a_raw_request_that_fits_no_shape_is_refused(
    targeted: Targeted, text: str, body: bytes, message: str
) -> None:
    model = targeted(f'name: "m" {text}')
    with pytest.raises(InferError) as refusal:
        Admission(model.config).check(decode_infer(body, 0, model, 1000)[0])
    assert (refusal.value.message, refusal.value.fault) == (message, Fault.INVALID_ARG)
