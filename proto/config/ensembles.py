"""How an ensemble fits the models that it is made of, which can be judged once they are loaded.

A tensor of the ensemble has a type and a shape from whoever names it first: the ensemble's own inputs and
outputs, then step after step. Everyone else who reads or writes it must agree. Shapes agree where dimensions
are equal or of any size, either as configured or with the batch dimension before those of models that batch.

A decoupled step answers any number of times. What comes out of it, and out of the steps behind it, may not be
joined with what comes out of another decoupled step: nobody could tell which answers belong together. The
tensor of a condition counts as what its step joins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..datatypes import Datatype
from ..schema import model_config_pb2 as pb
from .complaint import Complaint, ConfigError, entry
from .ensemble_rules import STEP_PATH
from .model_config import EnsembleStep, InputSpec, ModelConfig, OutputSpec
from .shapes import ANY, spell


def check_ensemble_wiring(ensemble: ModelConfig, models: Mapping[str, ModelConfig]) -> None:
    """Raise ConfigError with all that does not fit between an ensemble and its models, given by name."""
    tensors = _declared(ensemble)
    complaints = [
        *_check_steps(ensemble, models, tensors),
        *_check_conditions(ensemble, tensors),
        *_check_decoupled(ensemble, models),
    ]
    if complaints:
        raise ConfigError(complaints)


def with_transaction_policy(ensemble: ModelConfig, models: Mapping[str, ModelConfig]) -> ModelConfig:
    """Return an ensemble's configuration saying that it is decoupled, if one of its models is, or is not."""
    message = pb.ModelConfig()
    message.CopyFrom(ensemble.message)
    message.model_transaction_policy.decoupled = any(
        models[step.model_name].decoupled for step in _steps(ensemble)
    )
    return ModelConfig.from_message(message)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """What one model says of an ensemble tensor."""

    model: str
    datatype: Datatype
    dims: tuple[int, ...]
    full_dims: tuple[int, ...]

    @classmethod
    def of(cls, model: ModelConfig, tensor: InputSpec | OutputSpec, *, reshaped: bool = False) -> "_Tensor":
        """Return what a model says; of an ensemble, the reshaped shapes count."""
        dims = tensor.reshape if reshaped and tensor.reshape is not None else tensor.dims
        full_dims = (ANY, *dims) if model.max_batch_size > 0 else dims
        return cls(model.name, tensor.datatype, dims, full_dims)

    def disagreement(self, other: "_Tensor") -> str:
        """Return in what the two differ, empty if they agree."""
        if self.datatype is not other.datatype:
            return (
                f"inconsistent data type: {self.datatype.config_name} is inferred from model {self.model} "
                f"while {other.datatype.config_name} is inferred from model {other.model}"
            )
        if not (_match(self.dims, other.dims) or _match(self.full_dims, other.full_dims)):
            return (
                f"inconsistent shape: {spell(self.full_dims)} is inferred from model {self.model} "
                f"while {spell(other.full_dims)} is inferred from model {other.model}"
            )
        return ""


def _match(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(
        here == there or ANY in (here, there) for here, there in zip(left, right, strict=True)
    )


def _steps(ensemble: ModelConfig) -> tuple[EnsembleStep, ...]:
    return ensemble.ensemble.steps if ensemble.ensemble is not None else ()


def _declared(ensemble: ModelConfig) -> dict[str, _Tensor]:
    """Return what the ensemble itself says of its tensors."""
    tensors = {each.name: _Tensor.of(ensemble, each, reshaped=True) for each in ensemble.outputs}
    return tensors | {each.name: _Tensor.of(ensemble, each, reshaped=True) for each in ensemble.inputs}


def _check_steps(
    ensemble: ModelConfig, models: Mapping[str, ModelConfig], tensors: dict[str, _Tensor]
) -> Iterator[Complaint]:
    """Check each step against its model; `tensors` gets what the models say of those not yet known."""
    for index, step in enumerate(_steps(ensemble)):
        model = models[step.model_name]
        path = STEP_PATH + entry(index)
        if 0 < model.max_batch_size < ensemble.max_batch_size:
            message = (
                f"ensemble {ensemble.name} allows maximum batch size {ensemble.max_batch_size}, but it "
                f"contains model {model.name} which only allows maximum batch size to be "
                f"{model.max_batch_size}"
            )
            yield Complaint(message, path)
        yield from _check_inputs(ensemble, step, model, path, tensors)
        yield from _check_outputs(ensemble, step, model, path, tensors)


def _check_inputs(
    ensemble: ModelConfig, step: EnsembleStep, model: ModelConfig, path: str, tensors: dict[str, _Tensor]
) -> Iterator[Complaint]:
    prefix = f"in ensemble {ensemble.name}, "
    names = {each.name for each in model.inputs}
    for name in sorted(step.input_map.keys() - names):
        message = (
            f"{prefix}ensemble tensor {step.input_map[name]} is mapping to non-existing input {name} "
            f"in model {model.name}"
        )
        yield Complaint(message, f"{path}.input_map{entry(name)}")
    for each in model.inputs:
        tensor = step.input_map.get(each.name)
        if tensor is not None:
            said = _Tensor.of(model, each)
            disagreement = tensors.setdefault(tensor, said).disagreement(said)
            if disagreement:
                message = f"{prefix}ensemble tensor {tensor}: {disagreement}"
                yield Complaint(message, f"{path}.input_map{entry(each.name)}")
        elif not each.optional:
            message = f"{prefix}input {each.name} in model {model.name} is not mapped to any ensemble tensors"
            yield Complaint(message, path)


def _check_outputs(
    ensemble: ModelConfig, step: EnsembleStep, model: ModelConfig, path: str, tensors: dict[str, _Tensor]
) -> Iterator[Complaint]:
    prefix = f"in ensemble {ensemble.name}, "
    outputs = {each.name: each for each in model.outputs}
    for name in sorted(step.output_map):
        tensor, where = step.output_map[name], f"{path}.output_map{entry(name)}"
        if name not in outputs:
            message = (
                f"{prefix}ensemble tensor {tensor} is mapped from non-existing output {name} "
                f"in model {model.name}"
            )
            yield Complaint(message, where)
            continue
        said = _Tensor.of(model, outputs[name])
        disagreement = tensors.setdefault(tensor, said).disagreement(said)
        if disagreement:
            yield Complaint(f"{prefix}ensemble tensor {tensor}: {disagreement}", where)


def _check_conditions(ensemble: ModelConfig, tensors: Mapping[str, _Tensor]) -> Iterator[Complaint]:
    """Check that the tensor of each condition can be compared with its constant."""
    for index, step in enumerate(_steps(ensemble)):
        if step.when is None or step.when.tensor not in tensors:
            continue
        path = f"{STEP_PATH}{entry(index)}.when"
        prefix = f"in ensemble {ensemble.name}, condition '{step.when.text}' of step {index}: "
        tensor = tensors[step.when.tensor]
        if not step.when.suits(tensor.datatype):
            yield Complaint(
                f"{prefix}tensor {step.when.tensor} is {tensor.datatype.config_name}, which its constant is "
                "not",
                path,
            )
        if any(size not in (1, ANY) for size in tensor.dims):
            yield Complaint(
                f"{prefix}tensor {step.when.tensor} must have a single element, its shape is "
                f"{spell(tensor.dims)}",
                path,
            )


def _check_decoupled(ensemble: ModelConfig, models: Mapping[str, ModelConfig]) -> Iterator[Complaint]:
    """Check that no step joins what comes out of different decoupled steps."""
    origin = {each.name: 0 for each in ensemble.inputs}
    """Which decoupled step a tensor comes out of, counted from 1; 0 for none."""
    waiting = dict(enumerate(_steps(ensemble)))
    progress = True
    while progress:
        progress = False
        for index, step in list(waiting.items()):
            if not origin.keys() >= step.reads:
                continue
            progress = True
            del waiting[index]
            origins = {origin[tensor] for tensor in step.reads}
            if len(origins) > 1:
                yield _joined(ensemble, step.model_name, STEP_PATH + entry(index))
            own = index + 1 if models[step.model_name].decoupled else max(origins, default=0)
            if any(origin.get(tensor, own) != own for tensor in step.output_map.values()):
                yield _joined(ensemble, step.model_name, STEP_PATH + entry(index))
            origin.update(dict.fromkeys(step.output_map.values(), own))
    if len({origin[each.name] for each in ensemble.outputs if each.name in origin}) > 1:
        yield _joined(ensemble, ensemble.name, "output")


def _joined(ensemble: ModelConfig, model: str, path: str) -> Complaint:
    message = (
        f"in ensemble {ensemble.name}, step of model '{model}' receives inputs originated from different "
        f"decoupled models"
    )
    return Complaint(message, path)
