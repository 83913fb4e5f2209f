"""Warm-up: samples of a configuration that every engine runs before it takes its first request.

First executions are slow: memory is reserved, kernels are chosen and compiled. `warmup_batches` makes the
samples ready to run, all blocking reads included; a `WarmedPlan` seats engines that have run them, so that an
engine which replaces a broken one is warm as well. Samples pass neither admission nor schedule, and are not
counted. An engine that fails a sample is not seated.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from ..proto.byte_strings import TruncatedElementError, decode_byte_strings
from ..proto.config import ModelConfig, WarmupData, WarmupInput, WarmupSample
from ..proto.datatypes import Datatype
from ..proto.errors import InferError, internal, invalid, request_prefix
from ..proto.message import Request, Response
from ..proto.tensor import Shape, Tensor
from .api import Batch, Engine, Plan, Seat

log: Final = structlog.get_logger("deuteron.model")

DATA_DIRECTORY: Final = "warmup"
"""Where, beneath the directory of a model, the files of its samples lie."""
MAX_REQUESTS: Final = 1024
"""Requests of a sample for a model that has no batch dimension, and so no maximum of its own."""
MAX_STRING_BYTES: Final = 64 << 20
"""Bytes of a file of BYTES elements, whose size their number does not tell."""


@dataclass(frozen=True, slots=True)
class WarmupBatch:
    """One sample, ready to run."""

    name: str
    requests: Sequence[Request]
    count: int
    """How often it runs."""

    def run(self, engine: Engine, seat: Seat) -> None:
        """Run the sample and wait for all answers; blocks. Raises InferError with what went wrong."""
        for _ in range(self.count):
            log.debug(
                "model '%s' instance %s is running warmup sample '%s'",
                self.requests[0].model_name,
                seat.name,
                self.name,
            )
            answers = _Answers(len(self.requests))
            try:
                batch = Batch(self.requests, len(self.requests))
                engine.execute(batch, answers.take)
                seat.stream.synchronize()
                answers.wait(without=len(batch.rescheduled))
            except InferError as error:
                answers.errors.append(error.message)
            except Exception as error:  # noqa: BLE001 - a broken engine may raise anything
                answers.errors.append(f"{type(error).__name__}: {error}")
            if answers.errors:
                reasons = "".join(f"{each}; " for each in answers.errors)
                raise internal(f"failed to run warmup sample '{self.name}': {reasons}")


class _Answers:
    """What an engine answers to a sample, on whatever thread."""

    def __init__(self, expected: int) -> None:
        self.errors: list[str] = []
        self._missing = expected
        self._changed = threading.Condition()

    def take(self, row: int, response: Response) -> None:
        """Note one response; only the last one of each request counts, and errors do."""
        with self._changed:
            if response.error is not None:
                self.errors.append(response.error.message)
            if response.final:
                self._missing -= 1
                self._changed.notify_all()

    def wait(self, without: int) -> None:
        """Wait until every request has its last response, but for those that would come again."""
        with self._changed:
            self._changed.wait_for(lambda: self._missing <= without)


class WarmedPlan:
    """A plan whose engines have run all samples before anybody gets them."""

    __slots__ = ("_batches", "_plan")

    def __init__(self, plan: Plan, batches: Sequence[WarmupBatch]) -> None:
        self._plan = plan
        self._batches = batches

    def engine(self, seat: Seat) -> Engine:
        """Make the engine of one instance and warm it up; raises InferError when it cannot."""
        engine = self._plan.engine(seat)
        try:
            for batch in self._batches:
                batch.run(engine, seat)
        except BaseException:
            engine.close()
            raise
        return engine

    def close(self) -> None:
        """Give back what is shared."""
        self._plan.close()


def warmup_batches(config: ModelConfig, directory: Path) -> list[WarmupBatch]:
    """Return the samples of a model, ready to run; blocks, since data may come from files.

    Raises:
        InferError: where a sample is too large, or its data cannot be read.
    """
    return [_batch(sample, config, directory / DATA_DIRECTORY) for sample in config.warmup]


def _batch(sample: WarmupSample, config: ModelConfig, files: Path) -> WarmupBatch:
    limit = config.max_batch_size or MAX_REQUESTS
    if sample.batch_size > limit:
        raise invalid(
            f"warmup sample '{sample.name}' of model '{config.name}' has batch size {sample.batch_size}, "
            f"more than the {limit} that the model may be given"
        )
    batched = {spec.name for spec in config.inputs} if config.max_batch_size > 0 else set()
    inputs = {
        name: _tensor(name, given, (1, *given.dims) if name in batched else given.dims, files)
        for name, given in sample.inputs.items()
    }
    # Each request has its own inputs: whoever executes them may write there what the model is to see.
    requests = [Request(config.name, inputs=dict(inputs)) for _ in range(sample.batch_size)]
    return WarmupBatch(sample.name, requests, sample.count)


def _tensor(name: str, given: WarmupInput, shape: Shape, files: Path) -> Tensor:
    if given.data is WarmupData.FILE:
        return _from_file(name, given, shape, files)
    if given.datatype is Datatype.BYTES:
        array = np.empty(shape, np.object_)
        array.fill(b"")
    elif given.data is WarmupData.ZERO:
        array = np.zeros(shape, given.datatype.numpy_type)
    else:
        array = _random(given.datatype, shape)
    return Tensor.from_numpy(array, given.datatype)


def _random(datatype: Datatype, shape: Shape) -> npt.NDArray[Any]:
    """Return floats between 0 and 1, or integers of the whole range; the same ones each time."""
    generator = np.random.default_rng(seed=0)
    if datatype is Datatype.BF16:
        return (generator.random(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if datatype.numpy_type.kind == "f":
        return generator.random(shape).astype(datatype.numpy_type)
    if datatype is Datatype.BOOL:
        return generator.integers(0, 2, shape).astype(np.bool_)
    bounds = np.iinfo(datatype.numpy_type)
    return generator.integers(bounds.min, bounds.max, shape, datatype.numpy_type, endpoint=True)


def _from_file(name: str, given: WarmupInput, shape: Shape, files: Path) -> Tensor:
    file = (files / given.file).resolve()
    if not file.is_relative_to(files.resolve()):
        raise invalid(f"warmup data file '{given.file}' for input '{name}' is outside the warmup directory")
    elements = int(np.prod(shape, dtype=np.int64))
    wanted = elements * given.datatype.item_size if given.datatype.item_size else MAX_STRING_BYTES
    try:
        with file.open("rb") as opened:
            data = opened.read(wanted)
    except OSError as error:
        raise invalid(
            f"failed to read warmup data file '{given.file}' for input '{name}': {error.strerror}"
        ) from None
    if given.datatype is Datatype.BYTES:
        _check_strings(data, elements, given.file)
    elif len(data) < wanted:
        raise invalid(
            f"{request_prefix('')}warmup setting expects {wanted} bytes, but the data provided from "
            f"{given.file}only has {len(data)} bytes"
        )
    return Tensor(given.datatype, tuple(shape), data)


def _check_strings(data: bytes, elements: int, file: str) -> None:
    try:
        found = len(decode_byte_strings(data))
    except TruncatedElementError as error:
        raise invalid(f"warmup data file '{file}' cannot be read as strings: {error}") from None
    if found != elements:
        raise invalid(f"warmup setting expects {elements} strings, but {file} has {found}")
