"""What the server makes of a batch besides joining it: inputs that describe it, outputs that are dealt out.

A model whose requests differ in shape sees their elements in one row (`allow_ragged_batch`), and cannot tell
where one ends and the next begins. A *batch input* tells it. A *batch output* is the way back: elements in
one row, of which each request gets as many as its source input had.
"""

from dataclasses import dataclass
from enum import Enum

from .config.model_config import InputSpec, ModelConfig
from .datatypes import Datatype
from .schema import model_config_pb2 as pb


class BatchInputKind(Enum):
    """What a batch input says of its source, the input of the same name of all requests in a batch."""

    ELEMENT_COUNT = pb.BatchInput.BATCH_ELEMENT_COUNT
    """For each request, how many elements it has."""
    ACCUMULATED_ELEMENT_COUNT = pb.BatchInput.BATCH_ACCUMULATED_ELEMENT_COUNT
    """For each request, how many elements it and all before it have: where it ends."""
    ACCUMULATED_ELEMENT_COUNT_WITH_ZERO = pb.BatchInput.BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO
    """The same after a zero: where each begins, and where the last one ends."""
    MAX_ELEMENT_COUNT_AS_SHAPE = pb.BatchInput.BATCH_MAX_ELEMENT_COUNT_AS_SHAPE
    """As many zeros as the largest request has elements; what says something is the shape."""
    ITEM_SHAPE = pb.BatchInput.BATCH_ITEM_SHAPE
    """For each row of the batch, its shape."""
    ITEM_SHAPE_FLATTEN = pb.BatchInput.BATCH_ITEM_SHAPE_FLATTEN
    """The same in one row."""


@dataclass(frozen=True, slots=True)
class BatchInput:
    """Inputs of a model that are made of a batch; all its targets are alike."""

    kind: BatchInputKind
    targets: tuple[str, ...]
    datatype: Datatype
    source: str


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """Outputs of a model that are dealt out by the shapes of an input."""

    targets: tuple[str, ...]
    source: str


def batch_inputs(config: ModelConfig) -> tuple[BatchInput, ...]:
    """Return the inputs that are made of each batch."""
    return tuple(
        BatchInput(
            BatchInputKind(each.kind), tuple(each.target_name), Datatype(each.data_type), each.source_input[0]
        )
        for each in config.message.batch_input
    )


def batch_outputs(config: ModelConfig) -> tuple[BatchOutput, ...]:
    """Return the outputs that are dealt out element by element."""
    return tuple(
        BatchOutput(tuple(each.target_name), each.source_input[0]) for each in config.message.batch_output
    )


def made_inputs(config: ModelConfig) -> tuple[InputSpec, ...]:
    """Return the tensors that batch inputs fill, as inputs of the model."""
    rank = {BatchInputKind.ITEM_SHAPE: 2}
    return tuple(
        InputSpec(name, each.datatype, dims=(-1,) * rank.get(each.kind, 1))
        for each in batch_inputs(config)
        for name in each.targets
    )
