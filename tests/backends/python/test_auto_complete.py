"""`auto_complete_config`: what a model may fill in, and what it may not contradict."""

import pytest

from deuteron.backends.python.api.auto_complete import ModelConfig
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.schema import model_config_pb2 as pb

from .conftest import CONFIG, Workbench

COMPLETE = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        {body}
    def execute(self, requests):
        pass
"""


def completed(bench: Workbench, body: str, config: str = "") -> pb.ModelConfig:
    bench.write(COMPLETE.format(body=body))
    return bench.backend.complete(bench.message(config), bench.files)


def refused(bench: Workbench, body: str, config: str = "") -> InferError:
    with pytest.raises(InferError) as caught:
        completed(bench, body, config)
    return caught.value


def test_a_model_describes_itself(bench: Workbench) -> None:
    proposed = completed(
        bench,
        """
        config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [-1, 3], "optional": True})
        config.add_output({"name": "B", "data_type": "TYPE_STRING", "dims": [1]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        config.set_model_transaction_policy({"decoupled": True})
        return config
        """,
    )
    (described,) = proposed.input
    assert (described.name, described.data_type, list(described.dims)) == ("A", pb.TYPE_FP32, [-1, 3])
    assert described.optional
    assert (proposed.output[0].name, proposed.output[0].data_type) == ("B", pb.TYPE_STRING)
    assert proposed.max_batch_size == 8
    assert proposed.HasField("dynamic_batching")
    assert proposed.model_transaction_policy.decoupled


def test_what_is_configured_already_may_be_said_again_or_filled_up(bench: Workbench) -> None:
    proposed = completed(
        bench,
        """
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        return config
        """,
        "max_batch_size: 8 input { name: 'IN' data_type: TYPE_FP32 dims: -1 } output { name: 'OUT' }",
    )
    assert [each.name for each in proposed.input] == ["IN"]
    assert list(proposed.output[0].dims) == [4]
    assert proposed.output[0].data_type == pb.TYPE_FP32


def test_a_model_without_the_function_leaves_the_configuration_as_it_is(bench: Workbench) -> None:
    bench.write("class TritonPythonModel:\n    pass")
    assert bench.backend.complete(bench.message(), bench.files) == bench.message()


def test_the_model_directory_is_known_and_nothing_is_left_afterwards(bench: Workbench) -> None:
    error = refused(bench, "raise ValueError(pb_utils.get_model_dir())")
    assert str(bench.files.version_directory) in error.message


@pytest.mark.parametrize("returned", ["3", "None", "config.as_dict()"])
def test_anything_but_the_configuration_is_refused(bench: Workbench, returned: str) -> None:
    error = refused(bench, f"return {returned}")
    assert error.message == (
        "auto_complete_config function in model 'model' must return a valid pb.ModelConfig object."
    )
    assert error.fault is Fault.INTERNAL


def test_an_exception_is_told_with_the_frames_of_the_model(bench: Workbench) -> None:
    error = refused(bench, 'config.add_input({"name": "IN", "data_type": "TYPE_INT8", "dims": [-1]})', CONFIG)
    path = bench.files.version_directory / "model.py"
    line = next(n for n, text in enumerate(path.read_text().split("\n"), 1) if "add_input" in text)
    assert error.message == (
        "ValueError: unable to load model 'model', configuration expects datatype TYPE_FP32 for input 'IN', "
        f"model provides TYPE_INT8\n\nAt:\n  {path}({line}): auto_complete_config\n"
    )


@pytest.mark.parametrize(
    "body",
    [
        'config.add_input({"name": "A", "data_type": "TYPE_NONE", "dims": [1]}); return config',
        'config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": "x"}); return config',
        'config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": [np.int64(1)]}); return config',
        "config.as_dict()['nonsense'] = 1; return config",
    ],
)
def test_a_proposal_that_is_no_configuration_is_refused(bench: Workbench, body: str) -> None:
    refused(bench, body)


CONFIGURED = """
{
    "name": "m",
    "max_batch_size": 4,
    "input": [
        {"name": "I", "data_type": "TYPE_FP32", "dims": [2], "optional": false},
        {"name": "OPEN", "data_type": "TYPE_INVALID", "dims": []}
    ],
    "output": [{"name": "O", "data_type": "TYPE_FP32", "dims": [2]}],
    "model_transaction_policy": {"decoupled": true}
}
"""
IN_M = "in auto-complete-config function for model 'm'"
TENSOR_M = "model 'm', tensor"

WRONG_TYPE = "unable to load model 'm', configuration expects datatype TYPE_FP32 for"

CONTRADICTIONS = {
    "set_max_batch_size(3)": (
        "configuration specified max_batch_size 4, but in auto-complete-config function for model 'm' "
        "specified max_batch_size 3"
    ),
    "add_input({'name': 'I', 'data_type': 'TYPE_FP32', 'dims': [2], 'format': 1})": (
        f"input 'I' {IN_M} contains property other than 'name', 'data_type', 'dims' and 'optional'."
    ),
    "add_input({'data_type': 'TYPE_FP32', 'dims': [2]})": f"input {IN_M} is missing 'name' property.",
    "add_input({'name': 'I', 'dims': [2]})": f"input 'I' {IN_M} is missing 'data_type' property.",
    "add_input({'name': 'I', 'data_type': 'TYPE_FP32'})": f"input 'I' {IN_M} is missing 'dims' property.",
    "add_input({'name': 'I', 'data_type': 'TYPE_INT8', 'dims': [2]})": (
        f"{WRONG_TYPE} input 'I', model provides TYPE_INT8"
    ),
    "add_input({'name': 'I', 'data_type': 'TYPE_FP32', 'dims': [3]})": (
        f"{TENSOR_M} 'I': the model expects dims [3] but the model configuration specifies dims [2]"
    ),
    "add_input({'name': 'I', 'data_type': 'TYPE_FP32', 'dims': [2], 'optional': True})": (
        f"{TENSOR_M} 'I': the model expects optional True but the model configuration specifies optional "
        "False"
    ),
    "add_output({'name': 'O', 'data_type': 'TYPE_FP32', 'dims': [2], 'optional': True})": (
        f"output 'O' {IN_M} contains property other than 'name', 'data_type' and 'dims'."
    ),
    "add_output({})": f"output {IN_M} is missing 'name' property.",
    "add_output({'name': 'O', 'data_type': 'TYPE_INT8', 'dims': [2]})": (
        f"{WRONG_TYPE} output 'O', model provides TYPE_INT8"
    ),
    "add_output({'name': 'O', 'data_type': 'TYPE_FP32', 'dims': []})": (
        f"{TENSOR_M} 'O': the model expects dims [] but the model configuration specifies dims [2]"
    ),
    "set_model_transaction_policy({'coupled': True})": (
        f"model transaction property {IN_M} contains property other than 'decoupled'."
    ),
    "set_model_transaction_policy({'decoupled': False})": (
        "trying to change decoupled property in auto-complete-config for model 'm', which is already set to "
        "'True'."
    ),
}


@pytest.mark.parametrize(("call", "message"), CONTRADICTIONS.items())
def test_a_contradiction_raises(call: str, message: str) -> None:
    config = ModelConfig(CONFIGURED)
    with pytest.raises(ValueError, match=" ") as caught:
        eval(f"config.{call}", {"config": config})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "call",
    [
        "set_max_batch_size(4)",
        "set_max_batch_size(5)",
        "set_dynamic_batching()",
        "add_input({'name': 'I', 'data_type': 'TYPE_FP32', 'dims': [2], 'optional': False})",
        "add_input({'name': 'OPEN', 'data_type': 'TYPE_INT8', 'dims': [1], 'optional': True})",
        "set_model_transaction_policy({'decoupled': True})",
        "set_model_transaction_policy({})",
    ],
)
def test_agreement_raises_nothing(call: str) -> None:
    config = ModelConfig(CONFIGURED)
    eval(f"config.{call}", {"config": config})
    assert config.as_dict()["name"] == "m"


@pytest.mark.parametrize("scheduler", ["sequence_batching", "ensemble_scheduling"])
def test_a_scheduler_cannot_be_changed(scheduler: str) -> None:
    config = ModelConfig(CONFIGURED.replace('"name": "m"', f'"name": "m", "{scheduler}": {{}}'))
    with pytest.raises(ValueError, match=" ") as caught:
        config.set_dynamic_batching()
    assert str(caught.value) == (
        f"Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config function for "
        "model 'm' tries to set scheduling_choice as 'dynamic_batching'"
    )
