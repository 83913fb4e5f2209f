"""Where instances run: instance groups, once they were normalised."""

from collections.abc import Iterator

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry
from .normalise import Gpus
from .platforms import TENSORRT_PLAN

Group = pb.ModelInstanceGroup


def check_instance_groups(config: pb.ModelConfig, gpus: Gpus | None) -> Iterator[Complaint]:
    """Check that every group can run on this machine; `gpus` is None on a server that runs on CPUs only."""
    if config.HasField("ensemble_scheduling"):
        return
    if not config.instance_group:
        message = f"must specify one or more 'instance group's for {config.name}"
        yield Complaint(message, "instance_group")
    for index, group in enumerate(config.instance_group):
        path = f"instance_group{entry(index)}"
        title = f"instance group {group.name} of model {config.name}"
        if group.kind == Group.KIND_GPU:
            yield from _check_gpus(group, path, title, gpus)
        elif group.gpus:
            kind = Group.Kind.Name(group.kind)
            yield Complaint(f"{title} has kind {kind} but specifies one or more GPUs", f"{path}.gpus")
        yield from _check_profiles(group, path, title, config.platform)


def _check_gpus(group: Group, path: str, title: str, gpus: Gpus | None) -> Iterator[Complaint]:
    if gpus is None:
        message = f"{title} has kind KIND_GPU but server does not support GPUs"
        yield Complaint(message, f"{path}.kind")
        return
    if not group.gpus:
        missing = "specifies no GPUs" if gpus.ids else "no GPUs are available"
        yield Complaint(f"{title} has kind KIND_GPU but {missing}", f"{path}.kind")
    for number, gpu in enumerate(group.gpus):
        if gpu not in gpus.ids:
            message = (
                f"{title} specifies invalid or unsupported gpu id {gpu}. GPUs with at least the minimum "
                f"required CUDA compute compatibility of {gpus.min_compute_capability:.6f} are: "
                f"{', '.join(map(str, gpus.ids))}"
            )
            yield Complaint(message, f"{path}.gpus{entry(number)}")


def _check_profiles(group: Group, path: str, title: str, platform: str) -> Iterator[Complaint]:
    if not group.profile:
        return
    if platform != TENSORRT_PLAN:
        message = (
            f"{title} and platform {platform}specifies profile field which is only supported for "
            f"TensorRT models"
        )
        yield Complaint(message, f"{path}.profile")
        return
    for number, profile in enumerate(group.profile):
        if not (profile.isascii() and profile.isdigit()):
            message = (
                f"{title} and platform {platform} specifies invalid profile {profile}. The field should "
                f"contain the string representation of a non-negative integer."
            )
            yield Complaint(message, f"{path}.profile{entry(number)}")
