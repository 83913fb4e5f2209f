"""The control tensors of a model with sequences: what tells it where in which sequence a request stands.

A model asks for them by `control_input`: START, END and READY are one false or true value each, in the
datatype and with the two values that the configuration names; CORRID is the correlation ID. They are inputs
of the model and not of the client, so admission never sees them: they are added when a request is on its way
to an instance. Each has shape [1], or [1, 1] where the model batches.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from .batch_tensors import made_inputs
from .config import ModelConfig
from .config.model_config import InputSpec
from .datatypes import Datatype
from .errors import InferError, invalid
from .message import Correlation
from .schema import model_config_pb2 as pb
from .tensor import Shape, Tensor

Control = pb.ModelSequenceBatching.Control

_NO_ID: Final = 0
"""The correlation ID of a row that belongs to no sequence."""

_READY: Final = True
"""What every row says that a request stands behind."""

_FLAGS: Final = tuple((start, end) for start in (False, True) for end in (False, True))

_VALUES: Final = (
    ("int32_false_true", Datatype.INT32),
    ("fp32_false_true", Datatype.FP32),
    ("bool_false_true", Datatype.BOOL),
)


def no_start(correlation_id: int | str, model_name: str) -> InferError:
    """Return the error of a request that continues a sequence which is not known."""
    return invalid(
        f"inference request for sequence {correlation_id} to model '{model_name}' must specify the START "
        "flag on the first request of the sequence"
    )


def control_inputs(config: ModelConfig) -> tuple[InputSpec, ...]:
    """Return the control tensors that a model asks for, as inputs of the model."""
    if config.sequence_batching is None:
        return ()
    return tuple(
        InputSpec(tensor.name, _datatype(control), dims=(1,))
        for tensor in config.sequence_batching.control_input
        for control in tensor.control
    )


def model_inputs(config: ModelConfig) -> tuple[InputSpec, ...]:
    """Return all that a model reads: what clients send, what batches are told by, what sequences are."""
    return (*config.inputs, *made_inputs(config), *control_inputs(config))


class SequenceControls:
    """The control tensors of one model; all but the correlation ID are made once."""

    __slots__ = ("_correlation", "_empty", "_flagged", "_shape")

    def __init__(self, config: ModelConfig) -> None:
        """Take the configuration of a model with `sequence_batching`."""
        self._shape: Shape = (1, 1) if config.max_batch_size > 0 else (1,)
        self._correlation: tuple[str, Datatype] | None = None
        self._empty: dict[str, Tensor] = {}
        self._flagged: dict[tuple[bool, bool], dict[str, Tensor]] = {flags: {} for flags in _FLAGS}
        tensors = config.sequence_batching.control_input if config.sequence_batching is not None else ()
        for tensor in tensors:
            for control in tensor.control:
                self._add(tensor.name, control)

    def of(self, correlation: Correlation) -> Mapping[str, Tensor]:
        """Return the controls of a request."""
        flagged = self._flagged[correlation.start, correlation.end]
        if self._correlation is None:
            return flagged
        name, datatype = self._correlation
        return {**flagged, name: _correlation_tensor(correlation.id, datatype, self._shape)}

    def of_empty_slot(self) -> Mapping[str, Tensor]:
        """Return the controls of a row that no request stands behind: nothing is true of it."""
        return self._empty

    def _add(self, name: str, control: Control) -> None:
        if control.kind == Control.CONTROL_SEQUENCE_CORRID:
            datatype = _datatype(control)
            self._correlation = name, datatype
            self._empty[name] = _correlation_tensor(_NO_ID, datatype, self._shape)
            return
        no, yes = _no_and_yes(control, self._shape)
        self._empty[name] = no
        for (start, end), tensors in self._flagged.items():
            says = {Control.CONTROL_SEQUENCE_START: start, Control.CONTROL_SEQUENCE_END: end}
            tensors[name] = yes if says.get(control.kind, _READY) else no


def _no_and_yes(control: Control, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return the tensors of the two values of a control."""
    datatype = _datatype(control)
    field = next(name for name, each in _VALUES if each is datatype)
    no, yes = (
        Tensor.from_numpy(np.full(shape, value, datatype.numpy_type)) for value in getattr(control, field)
    )
    return no, yes


def _datatype(control: Control) -> Datatype:
    """Return the datatype of a control: that of its two values, or the one it names."""
    return next(
        (datatype for name, datatype in _VALUES if getattr(control, name)), Datatype(control.data_type)
    )


def _correlation_tensor(correlation_id: int | str, datatype: Datatype, shape: Shape) -> Tensor:
    """Return a correlation ID as a tensor; numbers of 32 bits take its lower half."""
    if datatype is Datatype.BYTES:
        text = correlation_id.encode() if isinstance(correlation_id, str) else b""
        return Tensor.from_numpy(np.full(shape, text, np.object_), datatype)
    number = correlation_id if isinstance(correlation_id, int) else _NO_ID
    low = number.to_bytes(8, "little", signed=number < 0)[: datatype.item_size]
    return Tensor.from_numpy(np.frombuffer(low, datatype.numpy_type).reshape(shape), datatype)
