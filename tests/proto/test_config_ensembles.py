"""How an ensemble must fit the models it is made of."""

import pytest
from google.protobuf import text_format

from deuteron.proto.config import (
    ConfigError,
    ModelConfig,
    check_ensemble_wiring,
    to_json,
    with_transaction_policy,
)
from deuteron.proto.schema import model_config_pb2 as pb


def model(name: str, text: str, *, kind: str = "TYPE_FP32") -> ModelConfig:
    """Return a model with an input i and an output o of one dimension, and what `text` adds."""
    tensor = f"data_type: {kind} dims: 4"
    base = f'name: "{name}" input {{ name: "i" {tensor} }} output {{ name: "o" {tensor} }}'
    return ModelConfig.from_message(text_format.Parse(base + text, pb.ModelConfig()))


def ensemble(*steps: tuple[str, dict[str, str], dict[str, str]], text: str = "") -> ModelConfig:
    """Return an ensemble from x to y with these steps."""
    message = text_format.Parse(text or DOOR, pb.ModelConfig())
    for name, inputs, outputs in steps:
        step = message.ensemble_scheduling.step.add(model_name=name)
        step.input_map.update(inputs)
        step.output_map.update(outputs)
    return ModelConfig.from_message(message)


DOOR = """name: "e" platform: "ensemble"
input { name: "x" data_type: TYPE_FP32 dims: 4 }
output { name: "y" data_type: TYPE_FP32 dims: 4 }"""
STRAIGHT = ensemble(("m", {"i": "x"}, {"o": "y"}))


def complaints_about(whole: ModelConfig, *models: ModelConfig) -> list[tuple[str, str]]:
    """Return the complaints as pairs of path and message."""
    try:
        check_ensemble_wiring(whole, {each.name: each for each in models})
    except ConfigError as error:
        return [(each.path, each.message) for each in error.complaints]
    return []


STEP = "ensemble_scheduling.step[0]"


@pytest.mark.parametrize(
    "part",
    [
        model("m", ""),
        model("m", 'input { name: "j" optional: true }'),
        model("m", 'output { name: "p" data_type: TYPE_INT8 dims: 1 }'),
    ],
)
def test_a_model_that_fits_is_not_complained_of(part: ModelConfig) -> None:
    assert complaints_about(STRAIGHT, part) == []


@pytest.mark.parametrize(
    ("dims", "batch", "fits"),
    [
        ("4", 0, True),
        ("-1", 0, True),
        ("[-1, 4]", 0, False),
        ("5", 0, False),
        ("4", 8, True),
    ],
)
def test_shapes_fit_where_sizes_are_equal_or_any(dims: str, batch: int, fits: bool) -> None:
    message = text_format.Parse(
        f'name: "m" max_batch_size: {batch} input {{ name: "i" data_type: TYPE_FP32 dims: {dims} }}'
        f'output {{ name: "o" data_type: TYPE_FP32 dims: {dims} }}',
        pb.ModelConfig(),
    )
    assert (complaints_about(STRAIGHT, ModelConfig.from_message(message)) == []) is fits


def test_a_batching_ensemble_may_hold_a_model_that_takes_batches_as_a_dimension() -> None:
    """A model without batches and of shape [-1, 4] is as good as one with batches and of shape [4]."""
    whole = ensemble(("m", {"i": "x"}, {"o": "y"}), text=DOOR + " max_batch_size: 2")
    message = text_format.Parse(
        'name: "m" input { name: "i" data_type: TYPE_FP32 dims: [-1, 4] }'
        'output { name: "o" data_type: TYPE_FP32 dims: [-1, 4] }',
        pb.ModelConfig(),
    )
    assert complaints_about(whole, ModelConfig.from_message(message)) == []


def test_a_reshape_of_the_ensemble_counts() -> None:
    text = DOOR.replace("dims: 4", "dims: [2, 2] reshape { shape: 4 }")
    assert complaints_about(ensemble(("m", {"i": "x"}, {"o": "y"}), text=text), model("m", "")) == []


def test_a_model_must_take_the_batches_of_the_ensemble() -> None:
    whole = ensemble(("m", {"i": "x"}, {"o": "y"}), text=DOOR + " max_batch_size: 8")
    message = (
        "ensemble e allows maximum batch size 8, but it contains model m which only allows maximum batch "
        "size to be 4"
    )
    assert complaints_about(whole, model("m", " max_batch_size: 4")) == [(STEP, message)]
    assert complaints_about(whole, model("m", " max_batch_size: 8")) == []


def test_maps_must_name_what_the_model_has() -> None:
    whole = ensemble(("m", {"k": "x"}, {"q": "y"}))
    assert complaints_about(whole, model("m", "")) == [
        (
            f'{STEP}.input_map["k"]',
            "in ensemble e, ensemble tensor x is mapping to non-existing input k in model m",
        ),
        (STEP, "in ensemble e, input i in model m is not mapped to any ensemble tensors"),
        (
            f'{STEP}.output_map["q"]',
            "in ensemble e, ensemble tensor y is mapped from non-existing output q in model m",
        ),
    ]


def test_types_must_agree() -> None:
    difference = "TYPE_FP32 is inferred from model e while TYPE_STRING is inferred from model m"
    assert complaints_about(STRAIGHT, model("m", "", kind="TYPE_STRING")) == [
        (
            f'{STEP}.input_map["i"]',
            f"in ensemble e, ensemble tensor x: inconsistent data type: {difference}",
        ),
        (
            f'{STEP}.output_map["o"]',
            f"in ensemble e, ensemble tensor y: inconsistent data type: {difference}",
        ),
    ]


def test_shapes_between_two_steps_must_agree() -> None:
    """Whoever names a tensor first says what it is; the batch dimension shows in the message."""
    whole = ensemble(("m", {"i": "x"}, {"p": "t", "o": "y"}), ("n", {"j": "t", "i": "x"}, {"o": "u"}))
    first = model("m", 'output { name: "p" data_type: TYPE_FP32 dims: [1, 2] } max_batch_size: 2')
    second = model("n", 'input { name: "j" data_type: TYPE_FP32 dims: [1, 3] }')
    difference = "[-1,1,2] is inferred from model m while [1,3] is inferred from model n"
    assert complaints_about(whole, first, second) == [
        (
            'ensemble_scheduling.step[1].input_map["j"]',
            f"in ensemble e, ensemble tensor t: inconsistent shape: {difference}",
        )
    ]


def fork(text: str) -> tuple[ModelConfig, list[ModelConfig]]:
    """Return an ensemble that joins a and b behind x, both with `text`, in a step c."""
    whole = ensemble(
        ("a", {"i": "x"}, {"o": "t"}),
        ("b", {"i": "x"}, {"o": "u"}),
        ("c", {"i": "t", "j": "u"}, {"o": "y"}),
    )
    joint = model("c", 'input { name: "j" data_type: TYPE_FP32 dims: 4 }')
    return whole, [model("a", text), model("b", text), joint]


def test_answers_of_different_decoupled_models_may_not_be_joined() -> None:
    whole, models = fork("model_transaction_policy { decoupled: true }")
    message = "in ensemble e, step of model 'c' receives inputs originated from different decoupled models"
    assert complaints_about(whole, *models) == [("ensemble_scheduling.step[2]", message)]
    assert complaints_about(*[(each := fork(""))[0], *each[1]]) == []


def test_outputs_of_different_decoupled_models_may_not_be_joined_either() -> None:
    text = DOOR + ' output { name: "z" data_type: TYPE_FP32 dims: 4 }'
    whole = ensemble(("a", {"i": "x"}, {"o": "y"}), ("b", {"i": "x"}, {"o": "z"}), text=text)
    decoupled = "model_transaction_policy { decoupled: true }"
    message = "in ensemble e, step of model 'e' receives inputs originated from different decoupled models"
    assert complaints_about(whole, model("a", decoupled), model("b", decoupled)) == [("output", message)]


@pytest.mark.parametrize("decoupled", ["true", "false"])
def test_an_ensemble_is_decoupled_if_a_model_is(decoupled: str) -> None:
    part = model("m", f"model_transaction_policy {{ decoupled: {decoupled} }}")
    whole = with_transaction_policy(STRAIGHT, {"m": part})
    assert whole.decoupled is (decoupled == "true")
    assert to_json(whole.message)["model_transaction_policy"] == {"decoupled": whole.decoupled}


def guarded(condition: str) -> ModelConfig:
    """Return an ensemble whose only step runs where a condition holds; w is a number, v are four."""
    whole = ensemble(
        ("m", {"i": "x"}, {"o": "y"}),
        text=f"""{DOOR} input {{ name: "w" data_type: TYPE_INT32 dims: 1 }}
        input {{ name: "v" data_type: TYPE_INT32 dims: 4 }}""",
    )
    message = pb.ModelConfig()
    message.CopyFrom(whole.message)
    message.ensemble_scheduling.step[0].when = condition
    return ModelConfig.from_message(message)


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("w == 1", ""),
        ("w == 0.5", "tensor w is TYPE_INT32, which its constant is not"),
        ("w == true", "tensor w is TYPE_INT32, which its constant is not"),
        ("v == 1", "tensor v must have a single element, its shape is [4]"),
    ],
)
def test_a_condition_must_fit_the_tensor_that_it_is_about(condition: str, complaint: str) -> None:
    told = complaints_about(guarded(condition), model("m", ""))
    prefix = f"in ensemble e, condition '{condition}' of step 0: "
    assert told == ([(f"{STEP}.when", prefix + complaint)] if complaint else [])


def test_the_tensor_of_a_condition_comes_from_the_same_decoupled_step_as_the_others() -> None:
    many = model("many", "model_transaction_policy { decoupled: true }")
    whole = ensemble(("many", {"i": "x"}, {"o": "t"}), ("m", {"i": "t"}, {"o": "y"}))
    message = pb.ModelConfig()
    message.CopyFrom(whole.message)
    message.ensemble_scheduling.step[1].when = "x == 1"
    ((path, told), *_) = complaints_about(ModelConfig.from_message(message), many, model("m", ""))[-1:]
    assert path == "ensemble_scheduling.step[1]"
    assert "receives inputs originated from different decoupled models" in told
