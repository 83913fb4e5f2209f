"""Graphs of ensembles in a short notation, and tensors that can be told apart."""

from deuteron.actors.ensemble import Answer
from deuteron.actors.graph import Graph
from deuteron.proto.config import ModelConfig, read_config, validated
from deuteron.proto.datatypes import Datatype
from deuteron.proto.tensor import Tensor


def graph_of(steps: str, inputs: str, outputs: str) -> Graph:
    """Return a graph in a short notation.

    Each line of `steps` is `model: reads -> writes`, perhaps with `when` and a condition after it. A model
    answers any number of times if its name begins with `many`, and can do without inputs that end in `?`.
    """
    text = 'platform: "ensemble"\n'
    for kind, names in ("input", inputs), ("output", outputs):
        for name in names.split():
            optional = " optional: true" if name.endswith("?") else ""
            tensor = name.removesuffix("?")
            text += f'{kind} {{ name: "{tensor}" data_type: TYPE_INT32 dims: 1{optional} }}\n'
    models: list[ModelConfig] = []
    text += "ensemble_scheduling {\n"
    for line in steps.strip().splitlines():
        name, _, flow = line.strip().partition(": ")
        flow, _, condition = flow.partition(" when ")
        read, _, written = flow.partition(" -> ")
        models.append(model(name, read.split(), written.split()))
        maps = [
            f'input_map {{ key: "{each.rstrip("?")}" value: "{each.rstrip("?")}" }}' for each in read.split()
        ]
        maps += [f'output_map {{ key: "{each}" value: "{each}" }}' for each in written.split()]
        when = f"when: '{condition}'" if condition else ""
        text += f'step {{ model_name: "{name}" model_version: -1 {" ".join(maps)} {when} }}\n'
    config = validated(read_config(f"{text}}}".encode(), "config.pbtxt", "e", None))
    return Graph(config, models)


def model(name: str, inputs: list[str], outputs: list[str]) -> ModelConfig:
    """Return a model of one step."""
    text = 'backend: "python"\n'
    if name.startswith("many"):
        text += "model_transaction_policy { decoupled: true }\n"
    for each in inputs:
        optional = " optional: true" if each.endswith("?") else ""
        text += f'input {{ name: "{each.rstrip("?")}" data_type: TYPE_INT32 dims: 1{optional} }}\n'
    for each in outputs:
        text += f'output {{ name: "{each}" data_type: TYPE_INT32 dims: 1 }}\n'
    return validated(read_config(text.encode(), "config.pbtxt", name, None))


def tensor(number: int = 0) -> Tensor:
    """Return a tensor that can be told from others."""
    return Tensor(Datatype.INT32, (1,), number.to_bytes(4, "little"))


def number_of(answer: Answer) -> dict[str, int | None]:
    """Return the numbers in an answer, None for outputs that are left out."""
    return {
        name: None if token.tensor is None else int.from_bytes(token.tensor.raw, "little")
        for name, token in answer.items()
    }
