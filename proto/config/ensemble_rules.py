"""How an ensemble is wired, judged by its own configuration alone.

Every step reads and writes ensemble tensors. The inputs of the ensemble are ready from the start, any other
tensor once all tensors are that the steps writing it read. Every output of the ensemble must become ready;
every other tensor must become ready and be read. A step reads the tensor of its condition too.

A tensor has one writer, or several of which at most one runs: their conditions exclude each other.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry
from .conditions import Condition
from .platforms import ENSEMBLE

STEP_PATH = "ensemble_scheduling.step"


def check_ensemble(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check that an ensemble has what it needs, and nothing that only other models may have."""
    if not config.HasField("ensemble_scheduling"):
        if config.platform == ENSEMBLE:
            message = (
                f"ensemble scheduling must be set for ensemble {config.name} whose platform is {ENSEMBLE}"
            )
            yield Complaint(message, "platform")
        return
    if config.platform != ENSEMBLE:
        message = (
            f"ensemble scheduling cannot be set for model '{config.name}' whose platform is not {ENSEMBLE}"
        )
        yield Complaint(message, "platform")
    if config.instance_group:
        message = f"instance group should not be specified for ensemble '{config.name}'"
        yield Complaint(message, "instance_group")
    if config.HasField("optimization"):
        yield Complaint(f"optimization should not be specified for ensemble '{config.name}'", "optimization")
    if config.model_warmup:
        yield Complaint(f"model_warmup can not be specified for ensemble '{config.name}'", "model_warmup")
    if not config.ensemble_scheduling.step:
        message = f"must specify 'step' for ensemble '{config.name}'"
        yield Complaint(message, "ensemble_scheduling")
        return
    broken = list(_check_steps(config))
    yield from broken or _Flow(config).check()


def _check_steps(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check every step by itself, and that no tensor is written twice."""
    writers: defaultdict[str, list[int]] = defaultdict(list)
    conditions: dict[int, Condition] = {}
    for index, step in enumerate(config.ensemble_scheduling.step):
        path = STEP_PATH + entry(index)
        if step.HasField("when"):
            try:
                conditions[index] = Condition.parse(step.when)
            except ValueError as error:
                message = f"invalid condition '{step.when}' in step {index} of ensemble '{config.name}'"
                yield Complaint(f"{message}: {error}", f"{path}.when")
        for needed in ("model_name", "input_map", "output_map"):
            if not getattr(step, needed):
                message = f"must specify '{needed}' in step {index} of ensemble '{config.name}'"
                yield Complaint(message, path)
        for name in sorted(step.output_map):
            tensor = step.output_map[name]
            if not all(_exclude(conditions, index, each) for each in writers[tensor]):
                message = (
                    f"ensemble tensor '{tensor}' can appear in an output map only once for ensemble "
                    f"'{config.name}' step {index}"
                )
                yield Complaint(message, f"{path}.output_map{entry(name)}")
            writers[tensor].append(index)


def _exclude(conditions: Mapping[int, Condition], one: int, other: int) -> bool:
    """Whether the conditions of two steps keep them from running both."""
    return one in conditions and other in conditions and conditions[one].excludes(conditions[other])


class _Flow:
    """The graph of the ensemble tensors, and which of them become ready."""

    def __init__(self, config: pb.ModelConfig) -> None:
        self.config = config
        self.places: dict[str, str] = {}
        """Every ensemble tensor in the order of the steps, with the path where it first appears."""
        self.sources: defaultdict[str, list[str]] = defaultdict(list)
        self.readers: defaultdict[str, list[str]] = defaultdict(list)
        for index, step in enumerate(config.ensemble_scheduling.step):
            for kind, tensors in ("output_map", step.output_map), ("input_map", step.input_map):
                for name in sorted(tensors):
                    self.places.setdefault(tensors[name], f"{STEP_PATH}{entry(index)}.{kind}{entry(name)}")
            read = [step.input_map[name] for name in sorted(step.input_map)]
            if step.HasField("when"):
                read.append(Condition.parse(step.when).tensor)
                self.places.setdefault(read[-1], f"{STEP_PATH}{entry(index)}.when")
            for written in step.output_map.values():
                for tensor in read:
                    self.sources[written].append(tensor)
                    self.readers[tensor].append(written)
        self.ready = self._become_ready()

    def _become_ready(self) -> set[str]:
        """Return the tensors that the inputs of the ensemble lead to."""
        ready = {tensor.name for tensor in self.config.input}
        waiting = list(ready)
        while waiting:
            for tensor in self.readers[waiting.pop()]:
                if tensor not in ready and ready.issuperset(self.sources[tensor]):
                    ready.add(tensor)
                    waiting.append(tensor)
        return ready

    def check(self) -> Iterator[Complaint]:
        """Check that everything declared is wired, and everything wired is of use."""
        name = self.config.name
        for index, tensor in enumerate(self.config.input):
            if tensor.name not in self.places:
                message = f"ensemble input '{tensor.name}' for ensemble {name}' is not used"
                yield Complaint(message, f"input{entry(index)}")
        outputs = {result.name for result in self.config.output}
        for index, result in enumerate(self.config.output):
            path = f"output{entry(index)}"
            if result.name not in self.places:
                yield Complaint(f"ensemble output '{result.name}' for ensemble {name}' is not used", path)
            elif result.name not in self.ready:
                message = f"output '{result.name}' for ensemble '{name}' is not written"
                yield Complaint(message + self._reason(result.name), path)
        for tensor_name, path in self.places.items():
            useless = tensor_name not in self.ready or not self.readers[tensor_name]
            if tensor_name not in outputs and useless:
                yield Complaint(f"ensemble tensor '{tensor_name}' is unused in ensemble '{name}'", path)

    def _reason(self, output: str) -> str:
        """Return what an output waits for: the last tensor on the way back that is not ready."""
        seen: set[str] = set()
        last = output
        while True:
            blocking = [each for each in self.sources[last] if each not in self.ready and each not in seen]
            if not blocking:
                break
            last = blocking[0]
            seen.add(last)
        if last == output:
            return ""
        return f": at least one of its depending tensors, '{last}', is not connected"
