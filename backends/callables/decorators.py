"""Decorators: they bring requests into the form that a function is best written for, and its answers back.

The server calls a function with a list of requests. `batch` and `sample` turn that into named inputs; those
that are written above them see requests (`fill_optionals`, `group_by_keys`, `group_by_shapes`), those below
them see named inputs (`group_by_values`, `pad_batch`, `json_values`); `first_value` and `triton_context` may
stand on either side. All of them work on functions, methods and coroutines; those that do not group work on
generators too.

The names are those of PyTriton, so that functions written for it run here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Final

import numpy as np

from ...proto.config import ModelConfig
from ...proto.datatypes import datatype_of_numpy
from ...proto.tensor import Array
from .context import CURRENT
from .outcomes import Outcome, then, together
from .request import Request

Value = Any
"""What is passed through to a function, and is its own matter."""
Function = Callable[..., Any]
Decorator = Callable[[Function], Function]
Inputs = Mapping[str, Any]
Outputs = Mapping[str, Array] | Sequence[Array]

CONTEXT_ARGUMENT: Final = "triton_context"


def batch(function: Function) -> Function:
    """Call a function with the inputs of all requests, each as one array, and split what it returns."""

    @wraps(function)
    def joined(*arguments: Value, **others: Value) -> Outcome:
        *bound, requests = arguments
        sizes = [_rows(request) for request in requests]
        outcome = function(*bound, **_join(requests), **others)
        return then(outcome, lambda outputs: _split(outputs, sizes))

    return joined


def sample(function: Function) -> Function:
    """Call a function with the inputs of the one request; for models that do not batch."""

    @wraps(function)
    def lone(*arguments: Value, **others: Value) -> Outcome:
        *bound, requests = arguments
        if len(requests) != 1:
            raise ValueError(f"@sample is for models without batching, and {len(requests)} requests came")
        return then(function(*bound, **requests[0], **others), lambda outputs: [outputs])

    return lone


def group_by_keys(function: Function) -> Function:
    """Call a function with those requests together that bring the same inputs."""
    return _grouped(function, frozenset)


def group_by_shapes(function: Function) -> Function:
    """Call a function with those requests together whose inputs have rows of the same shapes."""
    return _grouped(
        function, lambda request: frozenset((name, np.shape(request[name])[1:]) for name in request)
    )


def _shapes(request: Inputs) -> object:
    return frozenset((name, np.shape(value)[1:]) for name, value in request.items())


def _grouped(function: Function, key: Callable[[Inputs], object]) -> Function:
    @wraps(function)
    def grouped(*arguments: Value, **others: Value) -> Outcome:
        *bound, requests = arguments
        groups = _groups(map(key, requests))
        outcomes = [function(*bound, [requests[row] for row in rows], **others) for rows in groups]
        return together(outcomes, lambda answers: _in_order(groups, answers))

    return grouped


def group_by_values(*keys: str, pad_fn: Callable[[list[Any]], list[Any]] | None = None) -> Decorator:
    """Call a function with those rows of a batch together that have the same values of the inputs named.

    `pad_fn` takes the outputs of all groups and returns them with rows of one shape, so that they can be put
    side by side again; a `ConstantPadder` is one.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def grouped(*bound: Value, **inputs: Value) -> Outcome:
            if bound and _are_requests(bound[-1]):
                raise TypeError("@group_by_values belongs below @batch")
            named, others = _apart(inputs)
            groups = _groups(
                tuple(_comparable(named[key][row]) for key in keys) for row in range(_rows(named))
            )
            outcomes = [
                function(*bound, **{name: value[rows] for name, value in named.items()}, **others)
                for rows in groups
            ]
            return together(outcomes, lambda answers: _merged(groups, pad_fn(answers) if pad_fn else answers))

        return grouped

    return decorate


def fill_optionals(**defaults: Array) -> Decorator:
    """Put a default into each request that does not bring an input; defaults have no batch dimension."""

    def decorate(function: Function) -> Function:
        @wraps(function)
        def filled(*arguments: Value, **others: Value) -> Outcome:
            *bound, requests = arguments
            context = CURRENT.get()
            batching = context is None or context.model_config.max_batch_size > 0
            if context is not None:
                _check_defaults(defaults, context.model_config)
            complete = [_filled(request, defaults, batching=batching) for request in requests]
            return function(*bound, complete, **others)

        return filled

    return decorate


def pad_batch(function: Function) -> Function:
    """Repeat the last row until the batch has a preferred size, or else the largest; cut outputs back."""

    @wraps(function)
    def padded(*bound: Value, **inputs: Value) -> Outcome:
        context = CURRENT.get()
        if context is None:
            raise RuntimeError("@pad_batch needs the configuration of a model that is being served")
        named, others = _apart(inputs)
        rows = _rows(named)
        missing = _padded_size(context.model_config, rows) - rows
        if missing > 0:
            named = {
                name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])
                for name, value in named.items()
            }
        return then(function(*bound, **named, **others), lambda outputs: _each_output(outputs, slice(rows)))

    return padded


def first_value(*keys: str, squeeze_single_values: bool = True, strict: bool = True) -> Decorator:
    """Replace the inputs named by their first row, and that by a scalar where it has one element.

    Strictly, all rows must be equal; put `group_by_values` above it to make sure of that.
    """
    if CONTEXT_ARGUMENT in keys:
        raise ValueError(f"@first_value cannot take '{CONTEXT_ARGUMENT}' for an input")

    def first(inputs: Inputs) -> dict[str, Any]:
        return {
            name: _first(name, value, squeeze=squeeze_single_values, strict=strict) if name in keys else value
            for name, value in inputs.items()
        }

    def decorate(function: Function) -> Function:
        @wraps(function)
        def lightened(*arguments: Value, **inputs: Value) -> Outcome:
            context = CURRENT.get()
            if context is not None and context.model_config.max_batch_size == 0:
                raise RuntimeError("@first_value is for models that batch")
            if arguments and _are_requests(arguments[-1]):
                *bound, requests = arguments
                return function(*bound, [_with_inputs(each, first(each)) for each in requests], **inputs)
            named, others = _apart(inputs)
            return function(*arguments, **first(named), **others)

        return lightened

    return decorate


def triton_context(function: Function) -> Function:
    """Hand a function, as its argument `triton_context`, what it may know of its model."""

    @wraps(function)
    def informed(*arguments: Value, **inputs: Value) -> Outcome:
        context = CURRENT.get()
        if context is None:
            raise RuntimeError("@triton_context needs a model that is being served")
        return function(*arguments, **{**inputs, CONTEXT_ARGUMENT: context})

    return informed


class ConstantPadder:
    """Gives outputs of several groups rows of one shape, by a value behind those that are shorter."""

    def __init__(self, pad_value: float = 0) -> None:
        self.pad_value = pad_value

    def __call__(self, batches_list: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """Return the outputs of all groups with rows of one shape; strings are padded with empty ones."""
        shapes = {
            name: np.max([each[name].shape[1:] for each in batches_list if name in each], axis=0)
            for name in dict.fromkeys(name for each in batches_list for name in each)
        }
        return [
            {name: self._padded(value, shapes[name]) for name, value in each.items()} for each in batches_list
        ]

    def _padded(self, value: Array, shape: Array) -> Array:
        behind = [(0, int(more)) for more in shape - value.shape[1:]]
        fill = b"" if value.dtype.kind in "OS" else "" if value.dtype.kind == "U" else self.pad_value
        return np.pad(value, [(0, 0), *behind], mode="constant", constant_values=fill)


# --- requests ---


def _are_requests(argument: object) -> bool:
    return isinstance(argument, list) and all(isinstance(each, Mapping) for each in argument)


def _rows(inputs: Inputs) -> int:
    """Count the rows of the first input; 1 where there is none."""
    return next((len(value) for value in inputs.values() if np.ndim(value)), 1)


def _join(requests: Sequence[Inputs]) -> dict[str, Array]:
    first = requests[0]
    if any(request.keys() != first.keys() for request in requests):
        raise ValueError(
            "requests that bring different inputs cannot be batched; put @group_by_keys or @fill_optionals "
            "above @batch"
        )
    if len(requests) == 1:
        return dict(first)
    return {name: np.concatenate([request[name] for request in requests]) for name in first}


def _split(outputs: Outputs, sizes: Sequence[int]) -> list[Any]:
    """Return the rows of each request; raises ValueError where an output has not one row for each."""
    expected = sum(sizes)
    named = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs, 1)
    for name, value in named:
        rows = np.shape(value)[0] if np.ndim(value) else 0
        if rows != expected:
            raise ValueError(f"output {name} has {rows} rows, and {expected} came in")
    ends = np.cumsum(sizes).tolist()
    return [_each_output(outputs, slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def _each_output(outputs: Outputs, rows: slice) -> Outputs:
    if isinstance(outputs, Mapping):
        return {name: value[rows] for name, value in outputs.items()}
    return [value[rows] for value in outputs]


def _with_inputs(request: Inputs, inputs: Mapping[str, Any]) -> Inputs:
    return request.with_inputs(inputs) if isinstance(request, Request) else inputs


def _apart(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs, and what a decorator handed down beside them."""
    named = {name: value for name, value in inputs.items() if name != CONTEXT_ARGUMENT}
    return named, {name: value for name, value in inputs.items() if name == CONTEXT_ARGUMENT}


# --- groups ---


def _groups(keys: Iterable[object]) -> list[list[int]]:
    """Return the numbers of those that have the same key, in the order in which the keys first come."""
    groups: dict[object, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _comparable(value: Value) -> object:
    return (value.shape, tuple(value.ravel().tolist())) if isinstance(value, np.ndarray) else value


def _in_order(groups: Sequence[Sequence[int]], answers: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the answers of all groups in the order of the requests."""
    ordered: list[Any] = [None] * sum(map(len, groups))
    for numbers, answered in zip(groups, answers, strict=True):
        for number, answer in zip(numbers, answered, strict=True):
            ordered[number] = answer
    return ordered


def _merged(groups: Sequence[Sequence[int]], answers: Sequence[Outputs]) -> Outputs:
    """Return the outputs of all groups as those of one batch, its rows in their order."""
    order = np.argsort(np.concatenate(groups))
    if len(answers) == 1:
        return answers[0]
    if isinstance(answers[0], Mapping):
        return {name: np.concatenate([each[name] for each in answers])[order] for name in answers[0]}  # type: ignore[call-overload] # all of one form
    return [np.concatenate(parts)[order] for parts in zip(*answers, strict=True)]


# --- values ---


def _first(name: str, value: Array, *, squeeze: bool, strict: bool) -> Value:
    first = value[0]
    if strict and any(not np.array_equal(first, row) for row in value[1:]):
        raise ValueError(
            f"the rows of input '{name}' differ; put @group_by_values('{name}') above @first_value, or make "
            "it not strict"
        )
    return first.reshape(-1)[0] if squeeze and isinstance(first, np.ndarray) and first.size == 1 else first


def _filled(request: Inputs, defaults: Mapping[str, Array], *, batching: bool) -> Inputs:
    missing = {name: np.asarray(value) for name, value in defaults.items() if name not in request}
    if not missing:
        return request
    if batching:
        rows = _rows(request)
        missing = {name: np.repeat(value[np.newaxis], rows, axis=0) for name, value in missing.items()}
    return _with_inputs(request, {**request, **missing})


def _check_defaults(defaults: Mapping[str, Array], config: ModelConfig) -> None:
    """Raise ValueError for a default that the model's configuration does not allow."""
    specs = {spec.name: spec for spec in config.inputs}
    for name, default in defaults.items():
        spec, value = specs.get(name), np.asarray(default)
        if spec is None or not spec.optional:
            raise ValueError(f"@fill_optionals: model '{config.name}' has no optional input '{name}'")
        if datatype_of_numpy(value.dtype) is not spec.datatype:
            raise ValueError(
                f"@fill_optionals: input '{name}' is {spec.datatype.wire_name}, its default {value.dtype}"
            )
        fits = len(value.shape) == len(spec.dims) and all(
            dim in (-1, size) for dim, size in zip(spec.dims, value.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"@fill_optionals: input '{name}' has dims {list(spec.dims)}, its default {list(value.shape)}"
            )


def _padded_size(config: ModelConfig, rows: int) -> int:
    preferred = config.dynamic_batching.preferred_batch_sizes if config.dynamic_batching is not None else ()
    return min(size for size in (*preferred, max(rows, config.max_batch_size)) if size >= rows)
