"""What goes in and comes out: inputs, outputs, and the inputs that the server makes of a batch."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry
from .platforms import TENSORRT_PLAN
from .shapes import ANY, check_element_count, count

_IMAGE_RANK: Final = 3
"""Dimensions of a tensor that has an image format."""


def check_tensors(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check inputs, outputs, batch inputs and batch outputs."""
    for index, tensor in enumerate(config.input):
        yield from _suffixed(_check_input(tensor, f"input{entry(index)}", config), config.name)
    for index, result in enumerate(config.output):
        yield from _suffixed(_check_output(result, f"output{entry(index)}", config), config.name)
    yield from _suffixed(_check_batch_inputs(config), config.name)
    yield from _suffixed(_check_batch_outputs(config), config.name)


def _suffixed(complaints: Iterator[Complaint], model: str) -> Iterator[Complaint]:
    for complaint in complaints:
        yield Complaint(f"{complaint.message} for {model}", complaint.path)


def _check_input(tensor: pb.ModelInput, path: str, config: pb.ModelConfig) -> Iterator[Complaint]:
    yield from _check_tensor(tensor, path, config, "model input ")
    if (
        tensor.format in (pb.ModelInput.FORMAT_NHWC, pb.ModelInput.FORMAT_NCHW)
        and len(tensor.dims) != _IMAGE_RANK
    ):
        yield Complaint("model input NHWC/NCHW require 3 dims", f"{path}.dims")
    yield from _check_tensorrt_only(tensor, path, config.platform, "input")


def _check_output(tensor: pb.ModelOutput, path: str, config: pb.ModelConfig) -> Iterator[Complaint]:
    yield from _check_tensor(tensor, path, config, "model output ")
    yield from _check_tensorrt_only(tensor, path, config.platform, "output")


def _check_tensor(
    tensor: pb.ModelInput | pb.ModelOutput, path: str, config: pb.ModelConfig, prefix: str
) -> Iterator[Complaint]:
    """Check what inputs and outputs have in common."""
    if not tensor.name:
        yield Complaint(f"{prefix}must specify 'name'", path)
        return
    named = f"{prefix}'{tensor.name}' "
    if tensor.data_type == pb.TYPE_INVALID:
        yield Complaint(f"{named}must specify 'data_type'", f"{path}.data_type")
    if not tensor.dims:
        yield Complaint(f"{named}must specify 'dims'", f"{path}.dims")
        return
    if tensor.HasField("reshape") and not tensor.reshape.shape and config.max_batch_size == 0:
        message = (
            f"{named}cannot have empty reshape for non-batching model as scalar tensors are not supported"
        )
        yield Complaint(message, f"{path}.reshape")
    wrong = list(_check_dims(tensor.dims, f"{path}.dims", f"{named}dimension"))
    wrong += _check_dims(tensor.reshape.shape, f"{path}.reshape.shape", f"{named}reshape dimensions")
    yield from wrong
    if tensor.HasField("reshape") and not wrong:
        yield from _check_reshape(tensor, path, named)


def _check_dims(dims: Sequence[int], path: str, title: str) -> Iterator[Complaint]:
    for index, dim in enumerate(dims):
        if dim < 1 and dim != ANY:
            message = f"{title} must be integer >= 1, or {ANY} to indicate a variable-size dimension"
            yield Complaint(message, path + entry(index))


def _check_reshape(tensor: pb.ModelInput | pb.ModelOutput, path: str, named: str) -> Iterator[Complaint]:
    """Check that a reshape keeps every element: between dimensions of any size, products must be equal."""
    dims, shape, where = tensor.dims, tensor.reshape.shape, f"{path}.reshape"
    too_large = [
        *check_element_count(dims, f"{tensor.name} dims", f"{path}.dims"),
        *check_element_count(shape, f"{tensor.name} reshape", where),
    ]
    if too_large:
        yield from too_large
    elif count(dims) != count(shape) and (shape or count(dims) != 1):
        yield Complaint(f"{named}has different size for dims and reshape", where)
    elif count(dims) == ANY:
        before, after = _products(dims), _products(shape)
        if len(before) != len(after):
            message = f"{named}has different number of variable-size dimensions for dims and reshape"
            yield Complaint(message, where)
        elif before != after:
            yield Complaint(f"{named}has different size for dims and reshape", where)


def _products(dims: Sequence[int]) -> list[int]:
    """Return the element counts of the stretches between dimensions of any size."""
    stretches: list[list[int]] = [[]]
    for dim in dims:
        if dim == ANY:
            stretches.append([])
        else:
            stretches[-1].append(dim)
    return [math.prod(stretch) for stretch in stretches]


def _check_tensorrt_only(
    tensor: pb.ModelInput | pb.ModelOutput, path: str, platform: str, direction: str
) -> Iterator[Complaint]:
    if tensor.is_shape_tensor and platform != TENSORRT_PLAN:
        message = "shape tensors are only supported for TensorRT platform"
        yield Complaint(message, f"{path}.is_shape_tensor")
    if tensor.is_non_linear_format_io and platform != TENSORRT_PLAN:
        message = "Non-linear IO format is only supported for the TensorRT platform"
        yield Complaint(message, f"{path}.is_non_linear_format_io")
    elif tensor.is_non_linear_format_io and len(tensor.dims) != _IMAGE_RANK:
        yield Complaint(f"Non-linear IO format {direction} requires 3 dims", f"{path}.dims")


def _check_batch_inputs(config: pb.ModelConfig) -> Iterator[Complaint]:
    for index, batch_input in enumerate(config.batch_input):
        path = f"batch_input{entry(index)}"
        kind = pb.BatchInput.Kind.Name(batch_input.kind)
        if len(batch_input.source_input) != 1:
            message = f"batch input kind '{kind}' expects 1 source input, got {len(batch_input.source_input)}"
            yield Complaint(message, f"{path}.source_input")
        if batch_input.data_type not in (pb.TYPE_INT32, pb.TYPE_FP32):
            yield Complaint("batch input data type must be TYPE_INT32 or TYPE_FP32", f"{path}.data_type")
        yield from _check_sources(batch_input.source_input, path, config)


def _check_batch_outputs(config: pb.ModelConfig) -> Iterator[Complaint]:
    outputs = {tensor.name for tensor in config.output}
    for index, batch_output in enumerate(config.batch_output):
        path = f"batch_output{entry(index)}"
        kind = pb.BatchOutput.Kind.Name(batch_output.kind)
        if len(batch_output.source_input) != 1:
            message = (
                f"batch output kind '{kind}' expects 1 source input, got {len(batch_output.source_input)}"
            )
            yield Complaint(message, f"{path}.source_input")
        yield from _check_sources(batch_output.source_input, path, config)
        seen: set[str] = set()
        for number, target in enumerate(batch_output.target_name):
            where = f"{path}.target_name{entry(number)}"
            if target not in outputs:
                yield Complaint(f"unknown target output name '{target}'", where)
            elif target in seen:
                yield Complaint(f"target output name '{target}' can only be specified once", where)
            seen.add(target)


def _check_sources(sources: Sequence[str], path: str, config: pb.ModelConfig) -> Iterator[Complaint]:
    inputs = {tensor.name for tensor in config.input}
    for number, source in enumerate(sources):
        if source not in inputs:
            yield Complaint(f"unknown source input name '{source}'", f"{path}.source_input{entry(number)}")
