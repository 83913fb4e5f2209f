"""How requests are put side by side: the dynamic batcher and its queues."""

from collections.abc import Iterable, Iterator

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry


def check_dynamic_batching(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check preferred sizes, priorities, and that what must stay in order does."""
    if not config.HasField("dynamic_batching"):
        return
    batching = config.dynamic_batching
    yield from check_preferred_sizes(
        batching.preferred_batch_size,
        "dynamic_batching.preferred_batch_size",
        "dynamic batching preferred size",
        config,
    )
    yield from _check_priorities(batching, config.name)
    if batching.preserve_ordering:
        yield from _check_order(batching, config.name)


def check_preferred_sizes(
    sizes: Iterable[int], path: str, title: str, config: pb.ModelConfig
) -> Iterator[Complaint]:
    """Check that preferred batch sizes are possible ones."""
    for index, size in enumerate(sizes):
        if size <= 0:
            yield Complaint(f"{title} must be positive for {config.name}", path + entry(index))
        elif size > config.max_batch_size:
            yield Complaint(f"{title} must be <= max batch size for {config.name}", path + entry(index))


def _check_priorities(batching: pb.ModelDynamicBatching, model: str) -> Iterator[Complaint]:
    levels = batching.priority_levels
    if levels == 0:
        return
    if not 1 <= batching.default_priority_level <= levels:
        message = f"default priority level must be in range [1, {levels}] for {model}"
        yield Complaint(message, "dynamic_batching.default_priority_level")
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            message = f"priority queue policy must have priority level in range [1, {levels}] for {model}"
            yield Complaint(message, f"dynamic_batching.priority_queue_policy{entry(level)}")


def _check_order(batching: pb.ModelDynamicBatching, model: str) -> Iterator[Complaint]:
    if batching.priority_levels > 1:
        message = f"Only one priority level is allowed when 'preserve_ordering' is true for {model}"
        yield Complaint(message, "dynamic_batching.priority_levels")
    policies = [("dynamic_batching.default_queue_policy", batching.default_queue_policy)]
    policies += [
        (f"dynamic_batching.priority_queue_policy{entry(level)}", batching.priority_queue_policy[level])
        for level in sorted(batching.priority_queue_policy)
    ]
    for path, policy in policies:
        delays = policy.timeout_action == pb.ModelQueuePolicy.DELAY
        if policy.default_timeout_microseconds != 0 and delays:
            message = (
                f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true "
                f"for {model}"
            )
            yield Complaint(message, f"{path}.timeout_action")
