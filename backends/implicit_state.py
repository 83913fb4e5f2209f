"""Implicit state: tensors that a model hands to itself, from one request of a sequence to the next.

A configuration names them in pairs (`sequence_batching { state }`). With each request the model gets, as the
input `input_name`, what it answered to the request before as the output `output_name`; with START the
*initial* state: from a file, or zeros. Clients see neither, unless the output is one of the model's as well.

To an engine these are inputs and outputs like all others. A `StatefulPlan` loads the model with both written
into its configuration, and keeps the states beside each engine, by slot: so they stay on the instance that
the sequence has, and no more are kept than there are slots. A batch that fails changes no state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ..proto.byte_strings import TruncatedElementError, decode_byte_strings
from ..proto.config import ModelConfig
from ..proto.config.model_config import InputSpec, OutputSpec
from ..proto.datatypes import Datatype
from ..proto.errors import InferError, invalid
from ..proto.message import Request, Response
from ..proto.schema import model_config_pb2 as pb
from ..proto.tensor import Shape, Tensor
from .api import Batch, Emit, Engine, Plan, RemembersSequences, Seat

DATA_DIRECTORY: Final = "initial_state"
"""Where, beneath the directory of a model, the files of its initial states lie."""
MAX_STRING_BYTES: Final = 64 << 20
"""Bytes of a file of BYTES elements, whose size their number does not tell."""

States = Mapping[str, Tensor]
"""The tensors that a sequence has got so far, by their inputs."""


@dataclass(frozen=True, slots=True)
class StatePair:
    """One state: the input it is read from, the output it is written to, and what it begins with."""

    input: str
    output: str
    initial: Tensor


def state_pairs(config: ModelConfig, directory: Path) -> tuple[StatePair, ...]:
    """Return the states of a model; blocks, since they may begin with files. Raises InferError."""
    if config.sequence_batching is None:
        return ()
    for state in config.sequence_batching.state:
        _refuse_growable(state)
    batch_dims = (1,) if config.max_batch_size > 0 else ()
    return tuple(
        StatePair(
            state.input_name, state.output_name, _initial(state, batch_dims, directory / DATA_DIRECTORY)
        )
        for state in config.sequence_batching.state
    )


def with_states(config: ModelConfig) -> ModelConfig:
    """Return the configuration of a model as its engine sees it, with states among inputs and outputs."""
    states = config.sequence_batching.state if config.sequence_batching is not None else ()
    known = {spec.name for spec in config.outputs}
    inputs = [InputSpec(each.input_name, Datatype(each.data_type), tuple(each.dims)) for each in states]
    outputs = [
        OutputSpec(each.output_name, Datatype(each.data_type), tuple(each.dims))
        for each in states
        if each.output_name not in known
    ]
    return replace(config, inputs=(*config.inputs, *inputs), outputs=(*config.outputs, *outputs))


class StatefulPlan:
    """A plan whose engines keep the states of sequences."""

    __slots__ = ("_pairs", "_plan", "_shown")

    def __init__(self, plan: Plan, pairs: Sequence[StatePair], config: ModelConfig) -> None:
        """Take the plan of the configuration `with_states`, and the configuration that clients know."""
        self._plan = plan
        self._pairs = pairs
        self._shown = frozenset(spec.name for spec in config.outputs)

    def engine(self, seat: Seat) -> "StatefulEngine":
        """Make the engine of one instance, which knows no sequence yet."""
        return StatefulEngine(self._plan.engine(seat), self._pairs, self._shown)

    def close(self) -> None:
        """Give back what is shared."""
        self._plan.close()


class StatefulEngine:
    """An engine and the states of the sequences that it serves."""

    __slots__ = ("_engine", "_initial", "_outputs", "_pairs", "_shown", "_states")

    def __init__(self, engine: Engine, pairs: Sequence[StatePair], shown: frozenset[str]) -> None:
        self._engine = engine
        self._pairs = pairs
        self._shown = shown
        self._outputs = tuple(pair.output for pair in pairs)
        self._initial: States = {pair.input: pair.initial for pair in pairs}
        self._states: dict[int, States] = {}

    def execute(self, batch: Batch, emit: Emit) -> None:
        """Run a batch with its states, and keep what it made of them."""
        states = [self._state_of(request) for request in batch.requests]
        real = next((each for each in states if each is not None), self._initial)
        empty = {name: _zeros_like(tensor) for name, tensor in real.items()} if None in states else {}
        wanted = [self._shown.intersection(each.requested_outputs) or self._shown for each in batch.requests]
        for request, state in zip(batch.requests, states, strict=True):
            request.inputs.update(empty if state is None else state)
            if request.requested_outputs:
                request.requested_outputs = tuple({*request.requested_outputs, *self._outputs})

        def keep(row: int, response: Response) -> None:
            self._keep(batch.requests[row], response)
            shown = wanted[row]
            response.outputs = {name: each for name, each in response.outputs.items() if name in shown}
            emit(row, response)

        self._engine.execute(batch, keep)

    def states(self, slot: int) -> States:
        """Return what the model made of the states of the sequence in a slot."""
        return self._states.get(slot, self._initial)

    def restore(self, slot: int, states: States) -> None:
        """Have the sequence in a slot go on from other states."""
        self._states[slot] = states

    def forget_sequence(self, correlation_id: int | str, slot: int) -> None:
        """Let the states of an abandoned sequence go; the engine beneath may remember more."""
        self._states.pop(slot, None)
        if isinstance(self._engine, RemembersSequences):
            self._engine.forget_sequence(correlation_id, slot)

    def close(self) -> None:
        """Forget all states."""
        self._engine.close()
        self._states.clear()

    def _state_of(self, request: Request) -> States | None:
        """Return the state that a request finds; None for a row that belongs to no sequence."""
        if request.sequence_slot is None or request.correlation is None:
            return None
        if request.correlation.start:
            self._states[request.sequence_slot] = self._initial
        return self._states.get(request.sequence_slot, self._initial)

    def _keep(self, request: Request, response: Response) -> None:
        """Remember what a model made of the states of a sequence, as far as it said so."""
        slot, correlation = request.sequence_slot, request.correlation
        if slot is None or correlation is None or response.error is not None:
            return
        states = {pair.input: request.inputs[pair.input] for pair in self._pairs}
        for pair in self._pairs:
            if pair.output in response.outputs:
                states[pair.input] = response.outputs[pair.output]
        self._states[slot] = states
        if correlation.end and response.final:
            del self._states[slot]


def _refuse_growable(state: pb.ModelSequenceBatching.State) -> None:
    if not state.use_growable_memory:
        return
    if not state.use_same_buffer_for_input_output:
        raise invalid(
            "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input "
            f"name '{state.input_name}'."
        )
    raise invalid(
        "'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change "
        "the instance type to KIND_GPU or set 'use_growable_memory' to false for state input "
        f"'{state.input_name}'."
    )


def _initial(state: pb.ModelSequenceBatching.State, batch_dims: Shape, files: Path) -> Tensor:
    """Return what a state begins with: the dimensions of variable size are 1."""
    datatype = Datatype(state.data_type)
    dims = state.initial_state[0].dims if state.initial_state else state.dims
    shape = (*batch_dims, *(1 if size == -1 else size for size in dims))
    if state.initial_state and state.initial_state[0].WhichOneof("state_data") == "data_file":
        return _from_file(files, state.initial_state[0].data_file, datatype, shape)
    fill = b"" if datatype is Datatype.BYTES else 0
    return Tensor.from_numpy(np.full(shape, fill, datatype.numpy_type), datatype)


def _from_file(files: Path, name: str, datatype: Datatype, shape: Shape) -> Tensor:
    file = (files / name).resolve()
    if not file.is_relative_to(files.resolve()):
        raise invalid(f"initial state file '{name}' is outside the directory '{DATA_DIRECTORY}' of the model")
    elements = int(np.prod(shape, dtype=np.int64))
    wanted = elements * datatype.item_size if datatype.item_size else MAX_STRING_BYTES
    try:
        with file.open("rb") as opened:
            data = opened.read(wanted)
    except OSError as error:
        raise invalid(f"failed to read initial state file '{name}': {error.strerror}") from None
    if datatype is Datatype.BYTES:
        _check_strings(data, elements, name)
    elif len(data) < wanted:
        raise _too_short(wanted, name, len(data))
    return Tensor(datatype, shape, data)


def _check_strings(data: bytes, elements: int, name: str) -> None:
    try:
        found = len(decode_byte_strings(data))
    except TruncatedElementError as error:
        raise invalid(f"initial state file '{name}' cannot be read as strings: {error}") from None
    if found != elements:
        raise invalid(f"initial_state setting expects {elements} strings, but {name} has {found}")


def _too_short(wanted: int, name: str, found: int) -> InferError:
    return invalid(
        f"initial_state setting expects {wanted} bytes, but the data provided from {name}only has {found} "
        "bytes."
    )


def _zeros_like(tensor: Tensor) -> Tensor:
    fill = b"" if tensor.datatype is Datatype.BYTES else 0
    return Tensor.from_numpy(np.full(tensor.shape, fill, tensor.datatype.numpy_type), tensor.datatype)
