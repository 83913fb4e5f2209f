import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.admission import Admission
from deuteron.proto.config import ModelConfig
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Correlation, Request
from deuteron.proto.sizes import MAX_SIZE, size_within_bounds
from deuteron.proto.tensor import Shape, Tensor

Configured = Callable[[str], ModelConfig]

BATCHING = """
    name: "m" max_batch_size: 8
    input { name: "A" data_type: TYPE_FP32 dims: 16 }
    input { name: "B" data_type: TYPE_INT32 dims: [-1, 2] }
    output { name: "OUT" data_type: TYPE_FP32 dims: 16 }
"""

PLAIN = """
    name: "m"
    input { name: "A" data_type: TYPE_FP32 dims: [-1, 4] }
    output { name: "OUT" data_type: TYPE_FP32 dims: 4 }
"""

OPTIONAL = """
    name: "m" max_batch_size: 4
    input { name: "A" data_type: TYPE_UINT8 dims: 1 }
    input { name: "B" data_type: TYPE_UINT8 dims: 1 }
    input { name: "C" data_type: TYPE_UINT8 dims: 1 optional: true }
    output { name: "OUT" data_type: TYPE_UINT8 dims: 1 }
"""

STRINGS = """
    name: "m" max_batch_size: 8
    input { name: "A" data_type: TYPE_STRING dims: -1 }
    output { name: "OUT" data_type: TYPE_STRING dims: -1 }
"""

RID = "[request id: <id_unknown>] "

NOTE = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)


def tensor(datatype: Datatype, *shape: int, size: int | None = None) -> Tensor:
    """Return a tensor of zeros whose bytes fit its shape, or are as many as told."""
    fitting = int(np.prod(shape, dtype=object)) * datatype.item_size if size is None else size
    return Tensor(datatype, shape, bytes(fitting))


def strings(shape: Shape, *elements: bytes, tail: bytes = b"") -> Tensor:
    """Return a BYTES tensor of elements, whether or not they are as many as the shape says."""
    spelt = b"".join(struct.pack("<I", len(element)) + element for element in elements)
    return Tensor(Datatype.BYTES, shape, memoryview(spelt + tail))


FP32, INT32, UINT8, INVALID = Datatype.FP32, Datatype.INT32, Datatype.UINT8, Datatype.INVALID
A, B = tensor(FP32, 2, 16), tensor(INT32, 2, 3, 2)

REFUSED = {
    "an unknown output": (
        BATCHING,
        Request("m", inputs={}, requested_outputs=("OUT", "X")),
        "unexpected inference output 'X' for model 'm'",
    ),
    "no inputs": (
        BATCHING,
        Request("m"),
        (
            f"{RID}expected 2 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
            "required input(s) ['A','B']. Please provide all required input(s)."
        ),
    ),
    "a missing input": (
        BATCHING,
        Request("m", id="7", inputs={"B": B}),
        (
            "[request id: 7] expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['B'], but "
            "missing required input(s) ['A']. Please provide all required input(s)."
        ),
    ),
    "an input too many": (
        BATCHING,
        Request("m", inputs={"A": A, "B": B, "X": A}),
        (
            f"{RID}expected 2 inputs but got 3 inputs for model 'm'. Got input(s) "
            "['A','B','X'], but missing required input(s) ]. Please provide all required input(s)."
        ),
    ),
    "an unknown input in the right number": (
        BATCHING,
        Request("m", id="7", inputs={"A": A, "X": B}),
        "unexpected inference input 'X' for model 'm'",
    ),
    "too few inputs where some are optional": (
        OPTIONAL,
        Request("m", inputs={"A": tensor(UINT8, 1, 1)}),
        (
            f"{RID}expected number of inputs between 2 and 3 but got 1 inputs for model 'm'. Got "
            "input(s) ['A'], but missing required input(s) ['B']. Please provide all required input(s)."
        ),
    ),
    "an optional input in the place of a required one": (
        OPTIONAL,
        Request("m", inputs={"A": tensor(UINT8, 1, 1), "C": tensor(UINT8, 1, 1)}),
        (
            f"{RID}expected number of inputs between 2 and 3 but got 2 inputs for model 'm'. Got "
            "input(s) ['A','C'], but missing required input(s) ['B']. Please provide all required input(s)."
        ),
    ),
    "no batch dimension": (
        BATCHING,
        Request("m", inputs={"A": A, "B": tensor(INT32)}),
        f"{RID}input 'B' has no shape but model requires batch dimension for 'm'",
    ),
    "inputs that differ in batch size": (
        BATCHING,
        Request("m", inputs={"A": A, "B": tensor(INT32, 3, 3, 2)}),
        f"{RID}input 'A' batch size does not match other inputs for 'm'",
    ),
    "a batch too large": (
        BATCHING,
        Request("m", inputs={"A": tensor(FP32, 9, 16), "B": tensor(INT32, 9, 3, 2)}),
        f"{RID}inference request batch-size must be <= 8 for 'm'",
    ),
    "a negative batch": (
        BATCHING,
        Request("m", inputs={"A": tensor(FP32, -1, 16, size=0), "B": tensor(INT32, -1, 1, 2, size=0)}),
        f"{RID}inference request batch-size must be <= 8 for 'm'",
    ),
    "a batch of no rows": (
        BATCHING,
        Request("m", inputs={"A": tensor(FP32, 0, 16), "B": tensor(INT32, 0, 3, 2)}),
        f"{RID}inference request batch-size must be >= 1 for 'm'",
    ),
    "a wrong datatype": (
        BATCHING,
        Request("m", id="7", inputs={"A": tensor(INT32, 2, 16), "B": B}),
        "[request id: 7] inference input 'A' data-type is 'INT32', but model 'm' expects 'FP32'",
    ),
    "an unknown datatype": (
        BATCHING,
        Request("m", inputs={"A": tensor(INVALID, 2, 16), "B": B}),
        f"{RID}inference input 'A' data-type is '<invalid>', but model 'm' expects 'FP32'",
    ),
    "a wrong dimension": (
        BATCHING,
        Request("m", inputs={"A": tensor(FP32, 2, 17), "B": B}),
        f"{RID}unexpected shape for input 'A' for model 'm'. Expected [-1,16], got [2,17]. " + NOTE,
    ),
    "a dimension too few": (
        BATCHING,
        Request("m", inputs={"A": A, "B": tensor(INT32, 2, 6)}),
        f"{RID}unexpected shape for input 'B' for model 'm'. Expected [-1,-1,2], got [2,6]. " + NOTE,
    ),
    "a wrong dimension of a model without batches": (
        PLAIN,
        Request("m", inputs={"A": tensor(FP32, 2, 5)}),
        f"{RID}unexpected shape for input 'A' for model 'm'. Expected [-1,4], got [2,5]. ",
    ),
    "a wildcard in the request": (
        PLAIN,
        Request("m", inputs={"A": tensor(FP32, -1, 4, size=0)}),
        (f"{RID}All input dimensions should be specified for input 'A' for model 'm', got [-1,4]"),
    ),
    "a negative dimension": (
        PLAIN,
        Request("m", inputs={"A": tensor(FP32, -2, 4, size=0)}),
        "tensor 'A' contains an invalid dimension [-2,4]",
    ),
    "too few bytes": (
        BATCHING,
        Request("m", inputs={"A": tensor(FP32, 2, 16, size=127), "B": B}),
        f"{RID}input byte size mismatch for input 'A' for model 'm'. Expected 128, got 127",
    ),
    "too many bytes": (
        PLAIN,
        Request("m", inputs={"A": tensor(FP32, 1, 4, size=32)}),
        f"{RID}input byte size mismatch for input 'A' for model 'm'. Expected 16, got 32",
    ),
    "more bytes than can be counted": (
        PLAIN,
        Request("m", inputs={"A": tensor(FP32, 2**60, 4, size=0)}),
        "byte size for tensor 'A' exceeds maximum size of 9223372036854775807",
    ),
    "more strings than can be counted": (
        STRINGS,
        Request("m", inputs={"A": strings((2, 2**62))}),
        "element count for tensor 'A' exceeds maximum size of 9223372036854775807",
    ),
    "a negative number of strings": (
        STRINGS,
        Request("m", inputs={"A": strings((1, -7))}),
        "tensor 'A' contains an invalid dimension in shape [1,-7]",
    ),
    "a truncated length": (
        STRINGS,
        Request("m", inputs={"A": strings((1, 2), b"ab", tail=b"\1\0\0")}),
        (
            f"{RID}incomplete string length indicator for inference input 'A' for model 'm', "
            "expecting 4 bytes but only 3 bytes available. Please make sure the string length indicator is "
            "in one buffer."
        ),
    ),
    "a truncated string": (
        STRINGS,
        Request("m", inputs={"A": strings((1, 2), b"ab", tail=b"\7\0\0\0abc")}),
        (
            "incomplete string data for inference input 'A', expecting string of length 7 but only 3 bytes "
            "available"
        ),
    ),
    "a truncated string, and another one missing": (
        STRINGS,
        Request("m", inputs={"A": strings((1, 2), tail=b"\7\0\0\0abc")}),
        f"{RID}expected 2 string elements for inference input 'A' for model 'm', got 1",
    ),
    "too many strings": (
        STRINGS,
        Request("m", inputs={"A": strings((1, 2), b"", b"b", b"c", b"d")}),
        (f"{RID}unexpected number of string elements 3 for inference input 'A' for model 'm', expecting 2"),
    ),
    "too few strings": (
        STRINGS,
        Request("m", inputs={"A": strings((2, 2), b"", b"b", b"c")}),
        f"{RID}expected 4 string elements for inference input 'A' for model 'm', got 3",
    ),
}


@pytest.mark.parametrize(("model", "request_", "message"), REFUSED.values(), ids=REFUSED)
def test_a_request_is_refused_in_tritons_words(
    configured: Configured, model: str, request_: Request, message: str
) -> None:
    with pytest.raises(InferError) as refusal:
        Admission(configured(model)).check(request_)
    assert refusal.value.message == message
    assert refusal.value.fault is Fault.INVALID_ARG


ADMITTED = {
    "fixed and variable dimensions": (BATCHING, {"A": A, "B": B}, 2),
    "a variable dimension of size 0": (BATCHING, {"A": A, "B": tensor(INT32, 2, 0, 2)}, 2),
    "a model without batches": (PLAIN, {"A": tensor(FP32, 5, 4)}, 1),
    "an optional input left out": (OPTIONAL, {"A": tensor(UINT8, 4, 1), "B": tensor(UINT8, 4, 1)}, 4),
    "all optional inputs": (OPTIONAL, dict.fromkeys("ABC", tensor(UINT8, 3, 1)), 3),
    "strings": (STRINGS, {"A": strings((2, 2), b"", b"b", b"cc", b"\xff" * 300)}, 2),
    "no strings": (STRINGS, {"A": strings((2, 0))}, 2),
}


@pytest.mark.parametrize(("model", "inputs", "batch_size"), ADMITTED.values(), ids=ADMITTED)
def test_an_admitted_request_knows_its_batch_size(
    configured: Configured, model: str, inputs: dict[str, Tensor], batch_size: int
) -> None:
    request = Request("m", inputs=dict(inputs))
    Admission(configured(model)).check(request)
    assert request.batch_size == batch_size
    assert request.inputs == inputs


@pytest.mark.parametrize(
    ("batch", "reshape", "sent", "seen"),
    [
        ("max_batch_size: 4", "dims: 6 reshape { shape: [2, 3] }", (3, 6), (3, 2, 3)),
        ("max_batch_size: 4", "dims: 1 reshape { }", (3, 1), (3,)),
        (
            "max_batch_size: 4",
            "dims: [4, -1, 2, -1] reshape { shape: [2, 2, -1, -1, 2] }",
            (1, 4, 5, 2, 0),
            None,
        ),
        ("", "dims: [-1, 1] reshape { shape: -1 }", (7, 1), (7,)),
    ],
)
def test_a_reshaped_input_has_the_shape_the_model_wants(
    configured: Configured, batch: str, reshape: str, sent: Shape, seen: Shape | None
) -> None:
    """Wildcards keep their sizes in their order; the bytes stay where they are."""
    config = configured(f'name: "m" {batch} input {{ name: "A" data_type: TYPE_FP32 {reshape} }}')
    given_tensor = tensor(FP32, *sent)
    request = Request("m", inputs={"A": given_tensor})
    Admission(config).check(request)
    assert request.inputs["A"].shape == (seen or (1, 2, 2, 5, 0, 2))
    assert request.inputs["A"].raw is given_tensor.raw


def test_a_shape_tensor_has_no_batch_dimension(configured: Configured) -> None:
    config = configured(
        'name: "m" max_batch_size: 4 input { name: "A" data_type: TYPE_FP32 dims: 2 }'
        'input { name: "S" data_type: TYPE_INT32 dims: 2 is_shape_tensor: true }'
    )
    request = Request("m", inputs={"S": tensor(INT32, 2), "A": tensor(FP32, 3, 2)})
    Admission(config).check(request)
    assert request.batch_size == 3


SEQUENCES = """
    name: "m" input {{ name: "A" data_type: TYPE_UINT8 dims: 1 }}
    sequence_batching {{ control_input {{ name: "ID" control {{
        kind: CONTROL_SEQUENCE_CORRID data_type: {} }} }} }}
"""


@pytest.mark.parametrize(
    ("wanted", "correlation", "complaint"),
    [
        ("TYPE_UINT64", Correlation(5), None),
        ("TYPE_INT32", Correlation(5), None),
        ("TYPE_STRING", Correlation("five"), None),
        ("TYPE_INT64", None, None),
        ("TYPE_UINT64", Correlation("five"), "'BYTES', but model 'm' expects 'UINT64'"),
        ("TYPE_STRING", Correlation(5), "'UINT64', but model 'm' expects 'BYTES'"),
        ("TYPE_STRING", None, "'UINT64', but model 'm' expects 'BYTES'"),
    ],
)
def test_the_correlation_id_is_of_the_kind_the_model_asks_for(
    configured: Configured, wanted: str, correlation: Correlation | None, complaint: str | None
) -> None:
    admission = Admission(configured(SEQUENCES.format(wanted)))
    request = Request("m", inputs={"A": tensor(UINT8, 1)}, correlation=correlation)
    if complaint is None:
        admission.check(request)
        return
    with pytest.raises(InferError) as refusal:
        admission.check(request)
    assert refusal.value.message == (f"{RID}sequence batching control 'ID' data-type is {complaint}")


def test_a_sequence_model_without_correlation_control_takes_any_id(configured: Configured) -> None:
    config = configured('name: "m" input { name: "A" data_type: TYPE_UINT8 dims: 1 } sequence_batching { }')
    Admission(config).check(Request("m", inputs={"A": tensor(UINT8, 1)}, correlation=Correlation("x")))


DIMENSIONS = st.one_of(st.integers(-3, 5), st.sampled_from([2**31, 2**32, 2**62, 2**63 - 1, -(2**63)]))
SHAPES = st.lists(DIMENSIONS, max_size=6).map(tuple)


@given(
    st.dictionaries(
        st.sampled_from(["A", "B", "C", "X"]),
        st.builds(Tensor, st.sampled_from(list(Datatype)), SHAPES, st.binary(max_size=64)),
        max_size=4,
    ),
    st.sampled_from([BATCHING, PLAIN, OPTIONAL, STRINGS]),
)
def test_what_is_admitted_can_be_read_and_the_rest_is_refused(
    configured: Configured, inputs: dict[str, Tensor], model: str
) -> None:
    """Whatever shapes and bytes are claimed: an InferError, or tensors that numpy can make arrays of."""
    request = Request("m", inputs=inputs)
    try:
        Admission(configured(model)).check(request)
    except InferError:
        return
    for admitted in request.inputs.values():
        assert admitted.numpy().shape == admitted.shape


@given(st.lists(st.integers(0, 2**64), max_size=40).map(tuple), st.sampled_from([1, 2, 4, 8]))
def test_sizes_are_exact_or_out_of_bounds(shape: Shape, item_size: int) -> None:
    whole = int(np.prod([item_size, *(dim or 1 for dim in shape)], dtype=object))
    size = size_within_bounds(shape, item_size)
    assert size == (None if whole > MAX_SIZE else 0 if 0 in shape else whole)
