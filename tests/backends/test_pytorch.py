"""PyTorch models load from both kinds of file, find tensors by name, and answer as PyTorch itself would."""

import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deuteron.backends.api import Seat
from deuteron.backends.device import HOST, Device, HostStream
from deuteron.backends.pytorch.backend import PyTorchBackend
from deuteron.backends.pytorch.names import places
from deuteron.proto.datatypes import VALID_DATATYPES, Datatype
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.tensor import Array, Tensor

from .conftest import Rig

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

BACKEND = PyTorchBackend({})
Save = Callable[..., None]


class Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class AddSub(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a + b, a - b


class OfDictionary(torch.nn.Module):
    def forward(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return tensors["a"] - tensors["b"]


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x > 0).all()):
            x += 1
        return x


class Strings(torch.nn.Module):
    def forward(self, words: list[str], x: torch.Tensor) -> tuple[list[str], torch.Tensor]:
        return [word + "!" for word in words], x


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = torch.nn.Buffer(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x * 0 + self.count


class Product(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b


class OfInteger(torch.nn.Module):
    def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
        return x * times


class OfDictionaryToo(torch.nn.Module):
    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor]) -> torch.Tensor:
        return x + more["a"]


class ListOfTensors(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]


class ListInTuple(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return x, [x]


class DictionaryOfTensors(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": x}


class Total(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


class Nested(torch.nn.Module):
    def forward(
        self, x: torch.Tensor, options: dict[str, torch.Tensor], *, mask: torch.Tensor
    ) -> dict[str, Any]:
        return {"sum": x + options["bias"], "both": (x * mask, x - mask)}


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(features)
        return scores.softmax(1)


@pytest.fixture
def script(rig: Rig) -> Save:
    """Return a function that writes a module as the TorchScript file of the model."""

    def save(module: torch.nn.Module, name: str = "model.pt") -> None:
        path = str(rig.files.version_directory / name)
        torch.jit.script(module).save(path)  # type: ignore[no-untyped-call]

    return save


@pytest.fixture(scope="session")
def network() -> Network:
    """Return a network with weights."""
    return Network().eval()


@pytest.fixture(scope="session")
def exported_files(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Path:
    """Export programs, which takes a while, once for all tests."""
    directory = tmp_path_factory.mktemp("exported")
    rows = torch.export.Dim("rows")
    few = torch.export.Dim("few", max=3)
    three = torch.zeros(3, 4)
    nested = {"x": {0: rows}, "options": {"bias": {0: rows}}, "mask": {0: rows}}
    programs = {
        "network": torch.export.export(network, (three,), dynamic_shapes=({0: rows},)),
        "few": torch.export.export(network, (three,), dynamic_shapes=({0: few},)),
        "fixed": torch.export.export(network, (three,)),
        "nested": torch.export.export(
            Nested(), (three, {"bias": three + 1}), {"mask": three + 2}, dynamic_shapes=nested
        ),
        "bf16": torch.export.export(Identity(), (three.bfloat16(),), dynamic_shapes=({0: rows},)),
        "integer": torch.export.export(OfInteger(), (three, 2)),
    }
    for name, program in programs.items():
        torch.export.save(program, directory / f"{name}.pt2")
    return directory


@pytest.fixture
def export(rig: Rig, exported_files: Path) -> Save:
    """Return a function that makes an exported program the file of the model."""

    def link(name: str, target: str = "model.pt2") -> None:
        content = (exported_files / f"{name}.pt2").read_bytes()
        (rig.files.version_directory / target).write_bytes(content)

    return link


def config(inputs: str, outputs: str, datatype: str = "FP32", dims: str = "2", more: str = "") -> str:
    """Describe a model whose tensors are all alike."""
    tensor = f"data_type: TYPE_{datatype} dims: [ {dims} ]"
    lines = [f"input {{ name: '{name}' {tensor} }}" for name in inputs.split()]
    lines += [f"output {{ name: '{name}' {tensor} }}" for name in outputs.split()]
    return "\n".join([more, *lines])


EXPORTED = "platform: 'torch_aoti' "
BATCHED = "max_batch_size: 8 "
NETWORK = """
max_batch_size: 8
input { name: 'features' data_type: TYPE_FP32 dims: 4 }
output { name: 'scores' data_type: TYPE_FP32 dims: 2 }
"""


# Names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], [0, 1]),
        (["b", "a"], [1, 0]),
        (["b"], [1]),
        (["IN__1", "IN__0"], [1, 0]),
        (["a", "x__0"], [0, 1]),
        (["b", "other"], [0, 1]),
        (["x__1", "y__one"], [0, 1]),
        (["x__1__0", "y__1"], [0, 1]),
        (["ARGS[1]", "ARGS[0]"], [1, 0]),
    ],
)
def test_a_name_finds_its_place_by_argument_by_number_or_by_order(
    names: list[str], expected: list[int]
) -> None:
    assert places(names, ["a", "b"], ["ARGS[0]", "ARGS[1]"]) == dict(zip(names, expected, strict=True))


# TorchScript


@pytest.mark.parametrize(
    ("inputs", "outputs", "difference"),
    [
        ("a b", "SUM DIFFERENCE", "DIFFERENCE"),
        ("INPUT__0 INPUT__1", "OUTPUT__1 OUTPUT__0", "OUTPUT__1"),
        ("X Y", "OUT__1", "OUT__1"),
    ],
)
def test_rows_of_many_requests_are_computed_at_once(
    rig: Rig, script: Save, inputs: str, outputs: str, difference: str
) -> None:
    script(AddSub())
    engine = rig.engine(BACKEND, config(inputs, outputs, more=BATCHED))
    first, second = inputs.split()
    arrays = [np.arange(rows * 2, dtype=np.float32).reshape(rows, 2) for rows in (1, 3)]
    requests = [rig.request(**{first: each, second: each + 1}) for each in arrays]
    for array, response in zip(arrays, rig.run(engine, *requests), strict=True):
        assert set(response.outputs) == set(outputs.split())
        np.testing.assert_array_equal(response.outputs[difference].numpy(), np.full(array.shape, -1))


def test_only_outputs_that_are_asked_for_are_given(rig: Rig, script: Save) -> None:
    script(AddSub())
    engine = rig.engine(BACKEND, config("a b", "SUM DIFFERENCE"))
    ones = np.ones(2, np.float32)
    assert set(rig.answer(engine, ["SUM"], a=ones, b=ones)) == {"SUM"}


@pytest.mark.parametrize(
    "datatype",
    [each for each in VALID_DATATYPES if each is not Datatype.BYTES],
    ids=lambda datatype: datatype.wire_name,
)
def test_every_datatype_goes_in_and_comes_out(rig: Rig, script: Save, datatype: Datatype) -> None:
    script(Identity())
    engine = rig.engine(BACKEND, config("x", "y", datatype.name, more=BATCHED))
    array = np.array([[0, 1], [1, 0]]).astype(datatype.numpy_type)
    tensor = Tensor.from_numpy(array, datatype)
    for response in rig.run(engine, rig.request(x=tensor), rig.request(x=tensor)):
        assert response.outputs["y"].datatype is datatype
        np.testing.assert_array_equal(response.outputs["y"].numpy(), array)


def test_bytes_elements_are_a_list_of_strings(rig: Rig, script: Save) -> None:
    script(Strings())
    engine = rig.engine(
        BACKEND,
        """
        max_batch_size: 4
        input { name: 'words' data_type: TYPE_STRING dims: 1 reshape {} }
        input { name: 'x' data_type: TYPE_FP32 dims: 1 }
        output { name: 'LOUD__0' data_type: TYPE_STRING dims: 1 reshape {} }
        output { name: 'X__1' data_type: TYPE_FP32 dims: 1 }
        """,
    )
    words = [np.array([b"a", "\u00e9".encode()], np.object_), np.array([b""], np.object_)]
    requests = [rig.request(words=each, x=np.zeros((len(each), 1), np.float32)) for each in words]
    first, second = rig.run(engine, *requests)
    assert first.outputs["LOUD__0"].numpy().tolist() == [b"a!", "\u00e9!".encode()]
    assert second.outputs["LOUD__0"].numpy().tolist() == [b"!"]
    assert first.outputs["LOUD__0"].datatype is Datatype.BYTES


def test_a_dictionary_is_given_by_the_names_of_the_inputs(rig: Rig, script: Save) -> None:
    script(OfDictionary())
    engine = rig.engine(BACKEND, config("b a", "y"))
    answer = rig.answer(engine, a=np.array([5, 5], np.float32), b=np.array([1, 2], np.float32))
    assert answer["y"].tolist() == [4, 3]


def test_a_lone_request_is_computed_where_its_bytes_lie(rig: Rig, script: Save) -> None:
    script(Identity())
    body = np.arange(2, dtype=np.float32).tobytes()
    engine = rig.engine(BACKEND, config("x", "y"))
    answer = rig.answer(engine, x=Tensor(Datatype.FP32, (2,), memoryview(body)))
    assert np.shares_memory(answer["y"], np.frombuffer(body, np.uint8))


def test_bytes_that_lie_askew_are_moved(rig: Rig, script: Save) -> None:
    script(Identity())
    body = memoryview(b"\0" + np.arange(2, dtype=np.float32).tobytes())[1:]
    engine = rig.engine(BACKEND, config("x", "y"))
    assert rig.answer(engine, x=Tensor(Datatype.FP32, (2,), body))["y"].tolist() == [0, 1]


def test_elements_in_any_order_of_memory_are_taken(rig: Rig, script: Save) -> None:
    script(Identity())
    engine = rig.engine(BACKEND, config("x", "y", dims="-1, -1"))
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    for array in (given[::-1], given.T, given[:, ::2]):
        np.testing.assert_array_equal(rig.answer(engine, x=array)["y"], array)


def test_a_model_that_writes_to_its_arguments_harms_no_request(rig: Rig, script: Save) -> None:
    script(InPlace())
    engine = rig.engine(BACKEND, config("x", "y"))
    given = np.ones(2, np.float32)
    for _ in range(2):
        assert rig.answer(engine, x=given)["y"].tolist() == [2, 2]
    assert given.tolist() == [1, 1]


def counts(rig: Rig, text: str) -> list[float]:
    """Run two instances of the counting model once each; return what they counted."""
    plan = BACKEND.load(rig.config(config("x", "y", more=text)), rig.files, HOST)
    engines = [plan.engine(Seat(f"model_{index}", index, HOST, HostStream())) for index in range(2)]
    return [rig.answer(engine, x=np.zeros(2, np.float32))["y"][0] for engine in engines]


def test_instances_share_one_program_unless_the_model_forbids_it(rig: Rig, script: Save) -> None:
    script(Counting())
    assert counts(rig, "") == [1, 2]
    assert counts(rig, Rig.parameters(ENABLE_WEIGHT_SHARING="false")) == [1, 1]


def test_many_instances_run_at_a_time(rig: Rig, script: Save) -> None:
    script(AddSub())
    plan = BACKEND.load(rig.config(config("a b", "SUM DIFFERENCE")), rig.files, HOST)
    engines = [plan.engine(Seat(f"model_{index}", index, HOST, HostStream())) for index in range(4)]
    wrong: list[Array] = []

    def work(number: int) -> None:
        given = np.full(2, number, np.float32)
        for _ in range(50):
            total = rig.answer(engines[number], a=given, b=given)["SUM"]
            if total.tolist() != [2 * number] * 2:
                wrong.append(total)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for engine in engines:
        engine.close()
    plan.close()


def test_an_engine_tells_when_it_began_to_compute_and_when_it_was_done(rig: Rig, script: Save) -> None:
    script(Identity())
    batch = rig.batch(rig.request(x=np.ones(2, np.float32)))
    rig.engine(BACKEND, config("x", "y")).execute(batch, lambda _row, _response: None)
    assert 0 < batch.inputs_ready <= batch.outputs_started


@pytest.mark.parametrize(
    ("module", "text", "fault", "complaint"),
    [
        (
            AddSub,
            config("a", "SUM"),
            Fault.INVALID_ARG,
            "unable to load model 'model', configuration expects 1 inputs, model provides 2",
        ),
        (
            AddSub,
            config("IN__0 IN__2", "SUM"),
            Fault.INVALID_ARG,
            (
                "unable to load model 'model', input names must give each of the 2 arguments of the model "
                "a place of its own, counted from 0: IN__0, IN__2"
            ),
        ),
        (
            OfInteger,
            config("x times", "y"),
            Fault.INTERNAL,
            (
                "An input of type 'int' was detected in the model. Only a single input of type "
                "Dict(str, Tensor) or input(s) of type Tensor are supported."
            ),
        ),
        (
            OfDictionaryToo,
            config("x more", "y"),
            Fault.INTERNAL,
            (
                "Multiple inputs of kind DictType were detected. Only a single input of type "
                "Dict(str, Tensor) is supported."
            ),
        ),
        (
            OfDictionary,
            config("", "y"),
            Fault.INTERNAL,
            "model configuration must contain at least one input, none were specified.",
        ),
        (
            Identity,
            config("x", ""),
            Fault.INTERNAL,
            "model configuration must contain at least one output, none were specified.",
        ),
        (
            Identity,
            config("x", "y", "STRING", more=BATCHED),
            Fault.INTERNAL,
            "Triton only supports 1 dimensional List of String as input for 'x' for model 'model'",
        ),
        (
            Identity,
            (
                "input { name: 'x' data_type: TYPE_FP32 dims: 1 }"
                "output { name: 'y' data_type: TYPE_STRING dims: [ 1, 1 ] }"
            ),
            Fault.INTERNAL,
            "Triton only supports 1 dimensional List of String as output for 'y' for model 'model'",
        ),
        (
            Identity,
            "input { name: 'x' data_type: TYPE_FP32 dims: 1 optional: true }",
            Fault.INVALID_ARG,
            "'optional' is set to true for input 'x' while the backend model doesn't support optional input",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_torchscript_is_refused(
    rig: Rig, script: Save, module: type[torch.nn.Module], text: str, fault: Fault, complaint: str
) -> None:
    script(module())
    with pytest.raises(InferError) as caught:
        rig.engine(BACKEND, text)
    assert (caught.value.fault, caught.value.message) == (fault, complaint)


@pytest.mark.parametrize(
    ("module", "text", "fault", "complaint"),
    [
        (
            Identity,
            config("x", "y__1"),
            Fault.INVALID_ARG,
            (
                "The output y__1 in the model configuration refers to an output index which doesn't exist. "
                "This model has 1 outputs"
            ),
        ),
        (
            Identity,
            (
                "input { name: 'x' data_type: TYPE_FP32 dims: 2 }"
                "output { name: 'y' data_type: TYPE_INT64 dims: 2 }"
            ),
            Fault.INVALID_ARG,
            "configuration expects datatype TYPE_INT64 for output 'y', model provides TYPE_FP32",
        ),
        (
            Total,
            config("x", "y"),
            Fault.INVALID_ARG,
            "output 'y' is a scalar which is not supported.",
        ),
        (
            ListOfTensors,
            config("x", "y"),
            Fault.INTERNAL,
            "PyTorch execute failure: output must be of type Tensor or List[str], received List[Tensor]",
        ),
        (
            ListInTuple,
            config("x", "y"),
            Fault.INTERNAL,
            (
                "PyTorch execute failure: output at index 1 must be of type Tensor or List[str], received "
                "List[Tensor]"
            ),
        ),
        (
            DictionaryOfTensors,
            config("x", "y"),
            Fault.INTERNAL,
            (
                "PyTorch execute failure: output must be of type Tensor, List[str] or Tuple containing one "
                "of these two types. It should not be a List / Dictionary of Tensors or a Scalar"
            ),
        ),
    ],
)
def test_what_a_model_returns_must_be_what_the_configuration_says(
    rig: Rig, script: Save, module: type[torch.nn.Module], text: str, fault: Fault, complaint: str
) -> None:
    script(module())
    engine = rig.engine(BACKEND, text)
    with pytest.raises(InferError) as caught:
        rig.answer(engine, x=np.ones(2, np.float32))
    assert (caught.value.fault, caught.value.message) == (fault, complaint)


def test_what_the_model_raises_refuses_the_batch_and_the_engine_lives_on(rig: Rig, script: Save) -> None:
    script(Product())
    engine = rig.engine(BACKEND, config("a b", "c", dims="-1, -1"))
    two, three = np.ones((2, 2), np.float32), np.ones((3, 3), np.float32)
    with pytest.raises(
        InferError, match=r"(?s)^PyTorch execute failure: .*shapes cannot be multiplied"
    ) as caught:
        rig.answer(engine, a=two, b=three)
    assert caught.value.fault is Fault.INTERNAL
    assert rig.answer(engine, a=two, b=two)["c"].tolist() == [[2, 2], [2, 2]]


def test_a_missing_file_is_told(rig: Rig) -> None:
    for text, name in (
        ("", "model.pt"),
        (EXPORTED, "model.pt2"),
        ("default_model_filename: 'net.pt'", "net.pt"),
    ):
        with pytest.raises(InferError) as caught:
            rig.engine(BACKEND, config("x", "y", more=text))
        path = rig.files.version_directory / name
        assert caught.value.titled == f"Unavailable: unable to find '{path}' for model instance 'model'"


@pytest.mark.parametrize(
    ("name", "reason"), [("model.pt", ".*not a ZIP archive"), ("model.pt2", "File is not a zip file")]
)
def test_a_file_that_is_no_model_is_told(rig: Rig, name: str, reason: str) -> None:
    (rig.files.version_directory / name).write_bytes(b"junk")
    with pytest.raises(InferError, match=rf"^failed to load model 'model': {reason}") as caught:
        rig.engine(BACKEND, config("x", "y", more=f"default_model_filename: '{name}'"))
    assert caught.value.fault is Fault.INTERNAL


# Parameters


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_each_instance_computes_with_the_threads_it_is_given(rig: Rig, script: Save, threads: int) -> None:
    script(Identity())
    engine = rig.engine(BACKEND, config("x", "y", more=Rig.parameters(INTRA_OP_THREAD_COUNT=str(threads))))
    seen = []

    def lane() -> None:
        rig.answer(engine, x=np.zeros(2, np.float32))
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=lane)
    thread.start()
    thread.join()
    assert seen == [threads]


@pytest.mark.parametrize("mode", ["true", "false"])
@pytest.mark.parametrize("optimized", ["true", "false"])
def test_ways_to_execute_make_no_difference_to_the_answer(
    rig: Rig, script: Save, mode: str, optimized: str
) -> None:
    script(AddSub())
    text = Rig.parameters(INFERENCE_MODE=mode, DISABLE_OPTIMIZED_EXECUTION=optimized, UNKNOWN="ignored")
    ones = np.ones(2, np.float32)
    answer = rig.answer(rig.engine(BACKEND, config("a b", "SUM DIFFERENCE", more=text)), a=ones, b=ones)
    assert answer["SUM"].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("INFERENCE_MODE", "perhaps", "boolean"),
        ("DISABLE_OPTIMIZED_EXECUTION", "perhaps", "boolean"),
        ("ENABLE_WEIGHT_SHARING", "perhaps", "boolean"),
        ("ENABLE_JIT_PROFILING", "perhaps", "boolean"),
        ("INTRA_OP_THREAD_COUNT", "all", "integral number"),
        ("INTER_OP_THREAD_COUNT", "all", "integral number"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(
    rig: Rig, script: Save, key: str, text: str, kind: str
) -> None:
    script(Identity())
    with pytest.raises(InferError, match=f"failed to convert '{text}' to {kind}"):
        rig.engine(BACKEND, config("x", "y", more=Rig.parameters(**{key: text})))


def test_switches_of_the_compiler_and_threads_of_the_process_may_be_set(rig: Rig, script: Save) -> None:
    script(AddSub())
    text = Rig.parameters(
        ENABLE_JIT_EXECUTOR="true",
        ENABLE_JIT_PROFILING="true",
        ENABLE_TENSOR_FUSER="true",
        INTER_OP_THREAD_COUNT="1",
    )
    ones = np.ones(2, np.float32)
    for _ in range(2):
        answer = rig.answer(rig.engine(BACKEND, config("a b", "SUM DIFFERENCE", more=text)), a=ones, b=ones)
        assert answer["SUM"].tolist() == [2, 2]


# Exported programs


def test_an_exported_program_answers_as_the_module_it_came_from(
    rig: Rig, export: Save, network: Network
) -> None:
    export("network")
    engine = rig.engine(BACKEND, EXPORTED + NETWORK)
    arrays = [np.random.default_rng(rows).random((rows, 4), np.float32) for rows in (1, 3, 4)]
    for array, response in zip(
        arrays, rig.run(engine, *(rig.request(features=each) for each in arrays)), strict=True
    ):
        expected = network(torch.from_numpy(array)).detach().numpy()
        np.testing.assert_allclose(response.outputs["scores"].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        ("x options_bias mask", "OUTPUT__0 OUTPUT__1 OUTPUT__2"),
        ("mask options_bias x", "RESULT[sum] RESULT[both][0] RESULT[both][1]"),
        ("INPUT__0 INPUT__1 INPUT__2", "RESULT[both][0] RESULT[sum]"),
        ("KWARGS[mask] ARGS[0] ARGS[1][bias]", "A B C"),
        ("one two three", "OUTPUT__2 OUTPUT__0"),
    ],
)
def test_tensors_in_tuples_and_dictionaries_are_found_by_name(
    rig: Rig, export: Save, names: tuple[str, str]
) -> None:
    export("nested")
    inputs, outputs = (each.split() for each in names)
    engine = rig.engine(BACKEND, config(*names, dims="4", more=EXPORTED + BATCHED))
    arguments = {"x": 10, "options_bias": 100, "mask": 2}
    by_name = {
        "KWARGS[mask]": 2,
        "ARGS[0]": 10,
        "ARGS[1][bias]": 100,
        "INPUT__0": 10,
        "INPUT__1": 100,
        "INPUT__2": 2,
    }
    in_order = [10, 100, 2]
    given = {
        name: np.full((1, 4), (arguments | by_name).get(name, in_order[place]), np.float32)
        for place, name in enumerate(inputs)
    }
    results = [110, 20, 8]
    paths = ["RESULT[sum]", "RESULT[both][0]", "RESULT[both][1]"]
    answer = {name: array[0, 0] for name, array in rig.answer(engine, **given).items()}
    expected = {f"OUTPUT__{place}": each for place, each in enumerate(results)}
    expected |= dict(zip(paths, results, strict=True)) | dict(zip("ABC", results, strict=True))
    assert answer == {name: expected[name] for name in outputs}


@pytest.mark.parametrize(
    ("program", "size", "batch", "tensors"),
    [
        ("network", "4", 4, {"features": [4], "OUTPUT__0": [2]}),
        ("network", "16", 16, {"features": [4], "OUTPUT__0": [2]}),
        ("few", "16", 3, {"features": [4], "OUTPUT__0": [2]}),
        ("fixed", "4", 0, {"features": [3, 4], "OUTPUT__0": [3, 2]}),
        (
            "nested",
            "4",
            4,
            {
                "x": [4],
                "options_bias": [4],
                "mask": [4],
                "OUTPUT__0": [4],
                "OUTPUT__1": [4],
                "OUTPUT__2": [4],
            },
        ),
    ],
)
def test_an_exported_program_completes_its_configuration(
    rig: Rig, export: Save, program: str, size: str, batch: int, tensors: dict[str, list[int]]
) -> None:
    export(program)
    backend = PyTorchBackend({"default-max-batch-size": size})
    completed = backend.complete(rig.message(EXPORTED), rig.files)
    assert completed.max_batch_size == batch
    assert completed.HasField("dynamic_batching") == (batch > 1)
    inputs = {each.name: list(each.dims) for each in completed.input}
    outputs = {each.name: list(each.dims) for each in completed.output}
    assert list((inputs | outputs).items()) == list(tensors.items())
    assert {each.data_type for each in completed.input} == {Datatype.FP32.value}
    rig.engine(backend, str(completed).partition("\n")[2])


def test_torchscript_knows_too_little_to_complete_anything(rig: Rig, script: Save) -> None:
    script(Identity())
    message = rig.message("")
    assert BACKEND.complete(message, rig.files) is message


def test_the_name_of_the_file_tells_an_exported_program(rig: Rig, export: Save) -> None:
    export("network", "net.pt2")
    rig.engine(BACKEND, "default_model_filename: 'net.pt2'" + NETWORK)


def test_bf16_of_an_exported_program_is_completed_and_computed(rig: Rig, export: Save) -> None:
    export("bf16")
    completed = BACKEND.complete(rig.message(EXPORTED), rig.files)
    assert [each.data_type for each in completed.output] == [Datatype.BF16.value]
    engine = rig.engine(BACKEND, str(completed).partition("\n")[2])
    words = np.arange(8, dtype=np.uint16).reshape(2, 4)
    (response,) = rig.run(engine, rig.request(x=Tensor.from_numpy(words, Datatype.BF16)))
    (output,) = response.outputs.values()
    assert output.datatype is Datatype.BF16
    np.testing.assert_array_equal(output.numpy(), words)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            NETWORK.replace("dims: 4", "dims: 5"),
            (
                "model 'model', tensor 'features': the model expects 2 dimensions (shape [-1,4]) but the "
                "model configuration specifies 2 dimensions (an initial batch dimension because "
                "max_batch_size > 0 followed by the explicit tensor shape, making complete shape [-1,5])"
            ),
        ),
        (
            NETWORK.replace("FP32 dims: 4", "FP64 dims: 4"),
            (
                "unable to load model 'model', configuration expects datatype TYPE_FP64 for input "
                "'features', model provides TYPE_FP32"
            ),
        ),
        (
            NETWORK + "input { name: 'more' data_type: TYPE_FP32 dims: 4 }",
            "unable to load model 'model', configuration expects 2 inputs, model provides 1",
        ),
        (
            NETWORK.replace("scores", "scores__1"),
            (
                "The output scores__1 in the model configuration refers to an output index which doesn't "
                "exist. This model has 1 outputs"
            ),
        ),
    ],
)
def test_a_configuration_that_does_not_fit_an_exported_program_is_refused(
    rig: Rig, export: Save, text: str, complaint: str
) -> None:
    export("network")
    with pytest.raises(InferError) as caught:
        rig.engine(BACKEND, EXPORTED + text)
    assert (caught.value.fault, caught.value.message) == (Fault.INVALID_ARG, complaint)


def test_an_exported_program_of_other_things_than_tensors_is_refused(rig: Rig, export: Save) -> None:
    export("integer")
    with pytest.raises(InferError, match="of the exported program is not a tensor") as caught:
        BACKEND.complete(rig.message(EXPORTED), rig.files)
    assert caught.value.fault is Fault.UNSUPPORTED


def test_a_program_that_was_compiled_ahead_of_time_is_refused(rig: Rig) -> None:
    with zipfile.ZipFile(rig.files.version_directory / "model.pt2", "w") as archive:
        archive.writestr("model/data/aotinductor/model/model.so", b"")
    with pytest.raises(InferError, match=r"compiled ahead of time.*torch\.export\.save") as caught:
        rig.engine(BACKEND, EXPORTED + NETWORK)
    assert caught.value.fault is Fault.UNSUPPORTED


def test_rows_beyond_those_a_program_was_exported_for_refuse_the_batch(rig: Rig, export: Save) -> None:
    export("few")
    engine = rig.engine(BACKEND, EXPORTED + NETWORK)
    with pytest.raises(InferError, match=r"^PyTorch execute failure: Guard failed: ") as caught:
        rig.answer(engine, features=np.zeros((4, 4), np.float32))
    assert caught.value.fault is Fault.INTERNAL


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(rig: Rig, script: Save) -> None:
    script(Network())
    with pytest.raises(InferError, match=r"^failed to load model 'model': "):
        BACKEND.load(rig.config(NETWORK), rig.files, Device("GPU"))
