"""Whether a request may enter a model: what Triton's core checks before it schedules anything.

The order of the checks is Triton's (`InferenceRequest::Normalize`), so that of several mistakes the same one
is named: the outputs exist; the number of inputs; the names of the inputs and their batch sizes; the batch is
not too large; each input's datatype, shape and size; the kind of the correlation ID.

Three things are stricter than there. A required input that is missing is refused even where an optional one
makes up the number. A batch of no rows is refused. Strings that end beyond their buffer are refused here, not
in the model. How a request may wait, its priority and its place in a sequence are the scheduler's business.
"""

from typing import Final

from .config import ModelConfig
from .datatypes import Datatype
from .errors import InferError, invalid, request_prefix
from .input_rule import InputRule
from .message import Request
from .schema import model_config_pb2 as pb

_CORRELATION_CONTROL: Final = pb.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID

_NUMERIC_CORRELATION: Final = frozenset({Datatype.UINT64, Datatype.INT64, Datatype.UINT32, Datatype.INT32})
"""Datatypes in which a model may ask for a correlation ID that is a number."""


class Admission:
    """The checks of one model version; made once, then asked for every request."""

    __slots__ = (
        "_correlation",
        "_inputs",
        "_max_batch_size",
        "_model_name",
        "_outputs",
        "_required",
        "_reshapes",
        "_rules",
    )

    def __init__(self, config: ModelConfig) -> None:
        batching = config.max_batch_size > 0
        self._model_name = config.name
        self._max_batch_size = config.max_batch_size
        self._rules = {spec.name: InputRule(spec, config.name, batching=batching) for spec in config.inputs}
        self._required = {spec.name for spec in config.inputs if not spec.optional}
        self._inputs = len(config.inputs)
        self._reshapes = tuple(self._rules[spec.name] for spec in config.inputs if spec.reshape is not None)
        self._outputs = frozenset(spec.name for spec in config.outputs)
        self._correlation = _correlation_control(config)

    def check(self, request: Request) -> None:
        """Check a request, write its batch size into it and give reshaped inputs the model's shape.

        Raises:
            InferError: with the first thing that is wrong; the request must not be used then.
        """
        for name in request.requested_outputs:
            if name not in self._outputs:
                raise invalid(f"unexpected inference output '{name}' for model '{self._model_name}'")
        inputs = request.inputs
        if not len(self._required) <= len(inputs) <= self._inputs:
            raise self._wrong_number_of_inputs(request)
        request.batch_size = self._batch_size(request)
        if len(self._required) != self._inputs and not self._required <= inputs.keys():
            raise self._wrong_number_of_inputs(request)
        for name, tensor in reversed(inputs.items()):
            self._rules[name].check(tensor, request.id)
        for rule in self._reshapes:
            if rule.name in inputs:
                inputs[rule.name] = rule.reshaped(inputs[rule.name])
        if self._correlation is not None:
            self._check_correlation(request, *self._correlation)

    def _batch_size(self, request: Request) -> int:
        """Return the rows all inputs agree on, 1 for a model without batches; raises InferError."""
        rows: int | None = None
        # Of several bad inputs Triton mostly tells of the last, for so its hash table gives them out.
        for name, tensor in reversed(request.inputs.items()):
            rule = self._rules.get(name)
            if rule is None:
                raise invalid(f"unexpected inference input '{name}' for model '{self._model_name}'")
            if not rule.batched:
                continue
            shape = tensor.shape
            if not shape:
                raise invalid(
                    f"{request_prefix(request.id)}input '{name}' has no shape but model requires batch "
                    f"dimension for '{self._model_name}'"
                )
            if rows is None:
                rows = shape[0]
            elif rows != shape[0]:
                raise invalid(
                    f"{request_prefix(request.id)}input '{name}' batch size does not match other inputs "
                    f"for '{self._model_name}'"
                )
        if rows is None:
            return 1
        if rows > self._max_batch_size or rows < 0:
            # Triton keeps the batch size without a sign: a negative one is too large.
            raise invalid(
                f"{request_prefix(request.id)}inference request batch-size must be <= "
                f"{self._max_batch_size} for '{self._model_name}'"
            )
        if rows == 0:
            raise invalid(
                f"{request_prefix(request.id)}inference request batch-size must be >= 1 for "
                f"'{self._model_name}'"
            )
        return rows

    def _wrong_number_of_inputs(self, request: Request) -> InferError:
        got = ",".join(f"'{name}'" for name in request.inputs)
        missing = ",".join(
            f"'{name}'" for name in self._rules if name in self._required - request.inputs.keys()
        )
        number = (
            f"{self._inputs} inputs"
            if len(self._required) == self._inputs
            else f"number of inputs between {len(self._required)} and {self._inputs}"
        )
        # Triton cuts one character off the list of what is missing: a comma, or the bracket of an empty list.
        return invalid(
            f"{request_prefix(request.id)}expected {number} but got {len(request.inputs)} inputs for model "
            f"'{self._model_name}'. Got input(s) [{got}], but missing required input(s) "
            f"{f'[{missing}]' if missing else ']'}. Please provide all required input(s)."
        )

    def _check_correlation(self, request: Request, control: str, expected: Datatype) -> None:
        """Compare the kind of the correlation ID with the tensor that will carry it; raises InferError."""
        is_text = request.correlation is not None and isinstance(request.correlation.id, str)
        fits = expected is Datatype.BYTES if is_text else expected in _NUMERIC_CORRELATION
        if not fits:
            got = Datatype.BYTES if is_text else Datatype.UINT64
            raise invalid(
                f"{request_prefix(request.id)}sequence batching control '{control}' data-type is "
                f"'{got.wire_name}', but model '{self._model_name}' expects '{expected.wire_name}'"
            )


def _correlation_control(config: ModelConfig) -> tuple[str, Datatype] | None:
    """Return name and datatype of the tensor that carries the correlation ID, None where there is none."""
    if config.sequence_batching is None:
        return None
    for tensor in config.sequence_batching.control_input:
        for control in tensor.control:
            if control.kind == _CORRELATION_CONTROL:
                return tensor.name, Datatype(control.data_type)
    return None
