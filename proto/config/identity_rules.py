"""What a model is: its name, its backend and platform, its batch size, its metrics."""

from collections.abc import Iterator

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry
from .platforms import BACKEND_OF_PLATFORM, ENSEMBLE


def check_identity(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check name, backend, platform, batch size and version policy."""
    if not config.name:
        yield Complaint("model configuration must specify 'name'", "name")
    if not config.backend and config.platform != ENSEMBLE:
        yield Complaint(f"unexpected platform type '{config.platform}' for {config.name}", "platform")
    elif config.backend and config.platform == ENSEMBLE:
        message = (
            f"Ensemble model '{config.name}' must have platform type '{config.platform}' "
            f"and empty backend type"
        )
        yield Complaint(message, "backend")
    elif config.backend in BACKEND_OF_PLATFORM.values() and (
        BACKEND_OF_PLATFORM.get(config.platform) != config.backend
    ):
        message = f"unexpected 'platform' and 'backend' pair, got:{config.platform}, {config.backend}"
        yield Complaint(message, "platform")
    if config.max_batch_size < 0:
        message = f"'max_batch_size' must be non-negative value for {config.name}"
        yield Complaint(message, "max_batch_size")
    if not config.HasField("version_policy"):
        yield Complaint(f"must specify 'version policy' for {config.name}", "version_policy")


def check_response_cache(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check that the responses of a model that answers more than once are not cached."""
    if config.model_transaction_policy.decoupled and config.response_cache.enable:
        message = (
            f"Response Cache does not currently support model {config.name} with 'decoupled' transaction "
            f"policy. Please disable the response cache."
        )
        yield Complaint(message, "response_cache.enable")


def check_metrics(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check the histograms that the model asks for."""
    for index, control in enumerate(config.model_metrics.metric_control):
        path = f"model_metrics.metric_control{entry(index)}"
        if not control.HasField("metric_identifier"):
            yield Complaint("metric control must specify 'metric_identifier'", path)
        elif not control.metric_identifier.family:
            message = "metric identifier must specify non-empty 'family'"
            yield Complaint(message, f"{path}.metric_identifier")
        if not control.HasField("histogram_options"):
            yield Complaint("metric control must specify 'histogram_options'", path)
        elif not control.histogram_options.buckets:
            message = "histogram options must specify non-empty 'buckets'"
            yield Complaint(message, f"{path}.histogram_options")
