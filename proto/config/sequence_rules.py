"""How sequences of requests are served: control inputs, strategies, implicit state."""

from collections.abc import Iterator
from typing import Final

from ..datatypes import Datatype
from ..schema import model_config_pb2 as pb
from .batching_rules import check_preferred_sizes
from .complaint import Complaint, entry
from .shapes import ANY, check_byte_size

Control = pb.ModelSequenceBatching.Control

_VALUES: Final = ("int32_false_true", "fp32_false_true", "bool_false_true")
_FALSE_AND_TRUE: Final = 2
_CORRELATION_TYPES: Final = (
    pb.TYPE_UINT64,
    pb.TYPE_INT64,
    pb.TYPE_UINT32,
    pb.TYPE_INT32,
    pb.TYPE_STRING,
)


def check_sequence_batching(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check the controls and the strategy of the sequence batcher."""
    if not config.HasField("sequence_batching"):
        return
    batching = config.sequence_batching
    if config.response_cache.enable:
        message = (
            f"Response Cache does not currently support model {config.name} with sequence batching "
            f"scheduler. Please disable the response cache."
        )
        yield Complaint(message, "response_cache.enable")
    yield from _check_controls(config, Control.CONTROL_SEQUENCE_START, check_names=True)
    yield from _check_controls(config, Control.CONTROL_SEQUENCE_END)
    yield from _check_controls(config, Control.CONTROL_SEQUENCE_READY)
    yield from _check_controls(config, Control.CONTROL_SEQUENCE_CORRID)
    yield from check_preferred_sizes(
        batching.oldest.preferred_batch_size,
        "sequence_batching.oldest.preferred_batch_size",
        "sequence batching preferred batch size",
        config,
    )
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        message = f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {config.name}"
        yield Complaint(message, "sequence_batching.direct.minimum_slot_utilization")


def _check_controls(
    config: pb.ModelConfig, kind: Control.Kind, *, check_names: bool = False
) -> Iterator[Complaint]:
    """Check all controls of one kind; the names of the tensors are the same for all kinds, once is enough."""
    names: set[str] = set()
    found = False
    for index, tensor in enumerate(config.sequence_batching.control_input):
        path = f"sequence_batching.control_input{entry(index)}"
        if check_names and not tensor.name:
            yield Complaint(f"sequence batching control tensor must have a name for {config.name}", path)
        elif check_names and tensor.name in names:
            message = (
                f"sequence batching control tensor '{tensor.name}' is specified for multiple control kinds "
                f"for {config.name}"
            )
            yield Complaint(message, f"{path}.name")
        names.add(tensor.name)
        for number, control in enumerate(tensor.control):
            if control.kind != kind:
                continue
            path_of_control = f"{path}.control{entry(number)}"
            if found:
                message = f"sequence batching specifies multiple {_name(kind)} tensors for {config.name}"
                yield Complaint(message, path_of_control)
            elif kind == Control.CONTROL_SEQUENCE_CORRID:
                yield from _check_correlation_control(control, path_of_control, config.name)
            else:
                yield from _check_boolean_control(control, path_of_control, config.name)
            found = True


def _name(kind: Control.Kind) -> str:
    return Control.Kind.Name(kind)


def _check_boolean_control(control: Control, path: str, model: str) -> Iterator[Complaint]:
    """Check that a control has two values, of one type."""
    given = [values for values in _VALUES if getattr(control, values)]
    kind = _name(control.kind)
    if not given:
        message = (
            f"sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {kind} for {model}"
        )
        yield Complaint(message, path)
    elif len(given) > 1:
        message = (
            f"sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            f"'bool_false_true' for {kind} for {model}"
        )
        yield Complaint(message, f"{path}.{given[1]}")
    elif len(getattr(control, given[0])) != _FALSE_AND_TRUE:
        message = f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} for {model}"
        yield Complaint(message, f"{path}.{given[0]}")


def _check_correlation_control(control: Control, path: str, model: str) -> Iterator[Complaint]:
    """Check that a correlation ID has a type and no values."""
    kind = _name(control.kind)
    given = [values for values in _VALUES if getattr(control, values)]
    if given:
        message = (
            f"sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {kind} for {model}"
        )
        yield Complaint(message, f"{path}.{given[0]}")
    if control.data_type not in _CORRELATION_TYPES:
        message = (
            f"unexpected data type for control {kind} for {model}. Allowed data types are TYPE_UINT64, "
            f"TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )
        yield Complaint(message, f"{path}.data_type")


def check_initial_states(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check the states that a sequence begins with, as far as they can be judged without their files."""
    begun: set[str] = set()
    for index, state in enumerate(config.sequence_batching.state):
        path = f"sequence_batching.state{entry(index)}"
        count = len(state.initial_state)
        if count > 1:
            message = (
                f"initial_state field for state input '{state.input_name}' must contain exactly one or zero "
                f"element. Found '{count}' elements."
            )
            yield Complaint(message, f"{path}.initial_state[1]")
        elif count == 1:
            yield from _check_initial_state(state, f"{path}.initial_state[0]", begun)
            begun.add(state.input_name)


def _check_initial_state(
    state: pb.ModelSequenceBatching.State, path: str, begun: set[str]
) -> Iterator[Complaint]:
    initial, name = state.initial_state[0], state.input_name
    if initial.data_type != state.data_type:
        message = (
            f"The data type used for 'initial_state' field of state '{name}' does not match the state "
            f"data type."
        )
        yield Complaint(message, f"{path}.data_type")
    if not initial.name:
        message = f"Field 'name' must be set when using initial_state for state input '{name}'."
        yield Complaint(message, f"{path}.name")
    if name in begun:
        yield Complaint(f"State input name '{name}' specified more than once.", path)
    if len(initial.dims) != len(state.dims):
        message = (
            f"Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state "
            f"input '{name}'. {len(initial.dims)} != {len(state.dims)}"
        )
        yield Complaint(message, f"{path}.dims")
    else:
        yield from _check_initial_dims(state, path)
    if initial.WhichOneof("state_data") is None:
        yield Complaint(f"initial_state setting expects state'{name}' to have state_data set", path)


def _check_initial_dims(state: pb.ModelSequenceBatching.State, path: str) -> Iterator[Complaint]:
    initial, name = state.initial_state[0], state.input_name
    for index, (here, there) in enumerate(zip(initial.dims, state.dims, strict=True)):
        where = f"{path}.dims{entry(index)}"
        if here == ANY:
            message = f"'initial_state' field for state input name '{name}' contains variable dimensions."
            yield Complaint(message, where)
        elif there not in (ANY, here):
            message = (
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. "
                f"{here} != {there}"
            )
            yield Complaint(message, where)
    if ANY not in initial.dims:
        yield from check_byte_size(Datatype(initial.data_type), initial.dims, name, f"{path}.dims")
