"""What the control tensors of a sequence say, in every datatype and shape."""

import numpy as np
import pytest

from deuteron.proto.config import ModelConfig
from deuteron.proto.config.text import parse_text
from deuteron.proto.datatypes import Datatype
from deuteron.proto.message import Correlation
from deuteron.proto.sequence_controls import SequenceControls

FLAGS = """
control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START {pair} }} }}
control_input {{ name: "END" control {{ kind: CONTROL_SEQUENCE_END {pair} }} }}
control_input {{ name: "READY" control {{ kind: CONTROL_SEQUENCE_READY {pair} }} }}
"""


def controls_of(control_inputs: str, max_batch_size: int = 4) -> SequenceControls:
    """Return the controls of a model with these control inputs."""
    text = f'name: "m" max_batch_size: {max_batch_size} sequence_batching {{ {control_inputs} }}'
    return SequenceControls(ModelConfig.from_message(parse_text(text.encode(), "config.pbtxt")[0]))


def correlation_of(id_: int | str, datatype: str) -> object:
    """Return the one element that a model gets for a correlation ID."""
    control = f"control {{ kind: CONTROL_SEQUENCE_CORRID data_type: {datatype} }}"
    tensor = controls_of(f'control_input {{ name: "CORRID" {control} }}').of(Correlation(id_))["CORRID"]
    assert tensor.datatype.config_name == datatype
    assert tensor.shape == (1, 1)
    return tensor.numpy().item()


@pytest.mark.parametrize(
    ("pair", "datatype", "no", "yes"),
    [
        ("int32_false_true: [ 0, 1 ]", Datatype.INT32, 0, 1),
        ("int32_false_true: [ 7, -7 ]", Datatype.INT32, 7, -7),
        ("fp32_false_true: [ 0.5, 1.5 ]", Datatype.FP32, 0.5, 1.5),
        ("bool_false_true: [ false, true ]", Datatype.BOOL, False, True),
    ],
)
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("end", [False, True])
def test_flags_are_told_in_the_values_that_the_configuration_names(
    pair: str, datatype: Datatype, no: float, yes: float, start: bool, end: bool
) -> None:
    """START and END as the request says, READY always."""
    told = controls_of(FLAGS.format(pair=pair)).of(Correlation(1, start, end))
    values = {name: tensor.numpy().item() for name, tensor in told.items()}
    assert values == {"START": yes if start else no, "END": yes if end else no, "READY": yes}
    assert {tensor.datatype for tensor in told.values()} == {datatype}


def test_nothing_is_true_of_an_empty_slot() -> None:
    """Neither flag, nor that it is ready, and its correlation ID is 0."""
    corrid = 'control_input { name: "C" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }'
    told = controls_of(FLAGS.format(pair="int32_false_true: [ 3, 4 ]") + corrid).of_empty_slot()
    values = {name: tensor.numpy().item() for name, tensor in told.items()}
    assert values == {"START": 3, "END": 3, "READY": 3, "C": 0}


def test_the_correlation_id_of_an_empty_slot_may_be_the_empty_text() -> None:
    """Where the model takes texts."""
    corrid = 'control_input { name: "C" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }'
    assert controls_of(corrid).of_empty_slot()["C"].numpy().item() == b""


@pytest.mark.parametrize(("max_batch_size", "shape"), [(0, (1,)), (4, (1, 1))])
def test_controls_have_a_batch_dimension_where_the_model_has_one(
    max_batch_size: int, shape: tuple[int, ...]
) -> None:
    """One element in any case."""
    controls = controls_of(FLAGS.format(pair="int32_false_true: [ 0, 1 ]"), max_batch_size)
    told = (*controls.of(Correlation(1)).values(), *controls.of_empty_slot().values())
    assert {tensor.shape for tensor in told} == {shape}


@pytest.mark.parametrize(
    ("id_", "datatype", "told"),
    [
        (5, "TYPE_UINT64", 5),
        (2**64 - 1, "TYPE_UINT64", 2**64 - 1),
        (2**64 - 1, "TYPE_INT64", -1),
        (2**32 + 5, "TYPE_UINT32", 5),
        (2**32 - 1, "TYPE_INT32", -1),
        ("näme", "TYPE_STRING", "näme".encode()),
    ],
)
def test_the_correlation_id_takes_the_datatype_that_the_model_wants(
    id_: int | str, datatype: str, told: int | bytes
) -> None:
    """Numbers of 32 bits take the lower half, texts are in UTF-8."""
    assert correlation_of(id_, datatype) == told


def test_a_model_that_asks_for_no_controls_gets_none() -> None:
    """All of them are optional."""
    controls = controls_of("")
    assert not controls.of(Correlation(1, start=True))
    assert not controls.of_empty_slot()


def test_flags_are_made_once() -> None:
    """Requests with the same flags share their tensors."""
    controls = controls_of(FLAGS.format(pair="int32_false_true: [ 0, 1 ]"))
    assert controls.of(Correlation(1))["READY"] is controls.of(Correlation(2))["READY"]
    assert np.array_equal(controls.of(Correlation(1))["READY"].numpy(), [[1]])
