"""Which schedule serves a model, by its configuration."""

from collections.abc import Mapping
from typing import Final

from ..proto.config import ModelConfig
from ..proto.sequence_controls import SequenceControls
from .batching import DynamicBatcher, Joins, signature_of
from .direct import DirectSequences
from .held_start import held_start
from .oldest import OldestSequences
from .one_by_one import OneByOne
from .pacing import Divisible, FastestFirst
from .schedule import Schedule
from .sequence_statistics import SequenceStatistics

LONE_DEPTH: Final = 8
"""Credits of an only instance that runs requests one by one: nobody else could take them."""


def schedule_of(
    config: ModelConfig,
    environment: Mapping[str, str],
    sequences: SequenceStatistics | None = None,
    *,
    durable: bool = False,
    joins: Joins | None = None,
) -> Schedule:
    """Return the schedule that a configuration asks for; the environment may hold back its start.

    What becomes of sequences, where a model has any, is written into `sequences`; if they are `durable`, they
    may have begun on another server. `joins` is the model's own rule about batches, where it has one.
    """
    if config.dynamic_batching is not None:
        batcher = DynamicBatcher(config.dynamic_batching, config.max_batch_size, signature_of(config), joins)
        held = held_start(batcher, environment)
        return _paced(batcher, config.max_batch_size, config) if held is batcher else held
    if config.sequence_batching is not None:
        strategy = OldestSequences if config.sequence_batching.HasField("oldest") else DirectSequences
        controls = SequenceControls(config)
        statistics = sequences or SequenceStatistics()
        schedule = strategy(config, controls, signature_of(config), statistics, durable=durable)
        return held_start(schedule, environment)
    return _paced(OneByOne(), 1, config)


def _paced(queue: Divisible, limit: int, config: ModelConfig) -> Schedule:
    """Return a schedule that tells fast instances from slow ones, where there may be such."""
    if len(config.instance_groups) == 1:
        return queue
    return FastestFirst(queue, limit, ordered=is_ordered(config))


def depth_of(config: ModelConfig, instances: int) -> int:
    """Return how many batches may be on their way to one instance."""
    one_by_one = config.dynamic_batching is None and config.sequence_batching is None
    return LONE_DEPTH if instances == 1 and one_by_one else 1


def is_ordered(config: ModelConfig) -> bool:
    """Whether responses are promised in the order of their requests."""
    if config.dynamic_batching is not None:
        return config.dynamic_batching.preserve_ordering
    return config.sequence_batching is not None and config.sequence_batching.oldest.preserve_ordering
