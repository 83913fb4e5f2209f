"""What a backend may add to a configuration when it completes it.

Only batch size, inputs, outputs, a scheduling choice where there was none, and the transaction policy are
taken from what the backend proposes; whatever else it changed is dropped, as in Triton (core,
`backend_model.cc`, `UpdateModelConfig`).
"""

from ..errors import internal
from ..schema import model_config_pb2 as pb


def merge_completed(config: pb.ModelConfig, proposed: pb.ModelConfig) -> pb.ModelConfig:
    """Return the configuration with what a backend may complete taken from its proposal.

    Raises InferError (INTERNAL) when the proposal schedules otherwise than the configuration says.
    """
    merged = pb.ModelConfig()
    merged.CopyFrom(config)
    merged.max_batch_size = proposed.max_batch_size
    del merged.input[:]
    merged.input.extend(proposed.input)
    del merged.output[:]
    merged.output.extend(proposed.output)
    chosen, other = _scheduling(config), _scheduling(proposed)
    if chosen == 0:
        _adopt_scheduling(merged, proposed)
    elif chosen != other:
        raise internal(f"Cannot update scheduling choice from {chosen} to {other} when auto-completing.")
    if proposed.HasField("model_transaction_policy"):
        merged.model_transaction_policy.decoupled = proposed.model_transaction_policy.decoupled
    return merged


def _scheduling(config: pb.ModelConfig) -> int:
    """Return the number of the field that says how the model is scheduled, 0 where none does."""
    choice = config.WhichOneof("scheduling_choice")
    return config.DESCRIPTOR.fields_by_name[choice].number if choice else 0


def _adopt_scheduling(merged: pb.ModelConfig, proposed: pb.ModelConfig) -> None:
    choice = proposed.WhichOneof("scheduling_choice")
    if choice:
        getattr(merged, choice).CopyFrom(getattr(proposed, choice))
