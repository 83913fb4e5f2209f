"""The example repository: what `examples/digits/build.py` writes is valid, right, and written once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

SCRIPT = Path(__file__).parents[2] / "examples" / "digits" / "build.py"
MODELS = {"digits", "digits_onnx", "digits_preprocess", "digits_torchscript", "identity", "simple"}
ARTIFACTS = {"onnxruntime": "model.onnx", "pytorch": "model.pt", "python": "model.py"}


def build(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script to its end, with options for the interpreter."""
    command: list[str | Path] = [sys.executable, *options, SCRIPT, "--output", output]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a repository once, over one that is out of date."""
    output = tmp_path_factory.mktemp("example") / "repository"
    (output / "gone").mkdir(parents=True)
    (output / ".stamp").write_text("of an older time")
    built = build(output)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "held-out accuracy" in built.stdout
    return output


@pytest.fixture(scope="module")
def images(repository: Path) -> NDArray[np.float32]:
    """Give the held-out digits as the network reads them."""
    with np.load(repository / "held_out.npz") as held_out:
        ink: NDArray[np.float32] = 1 - held_out["pictures"].astype(np.float32) / 255
    return ink.reshape(-1, 1, 8, 8)


@pytest.fixture(scope="module")
def onnx_probabilities(repository: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer for all held-out digits with the ONNX graph."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(repository / "digits_onnx" / "1" / "model.onnx")
    probabilities: NDArray[np.float32] = session.run(["PROBABILITIES"], {"IMAGE": images})[0]
    return probabilities


def config_of(repository: Path, model: str) -> model_config_pb2.ModelConfig:
    text = (repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_new_repository_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it(
    repository: Path,
) -> None:
    assert {path.name for path in repository.iterdir() if path.is_dir()} == MODELS
    assert list(repository.parent.iterdir()) == [repository]


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_has_a_configuration_that_parses_and_the_file_its_backend_reads(
    repository: Path, model: str
) -> None:
    config = config_of(repository, model)
    version = repository / model / "1"
    assert version.is_dir()
    artifact = ARTIFACTS.get(config.backend)
    assert artifact is None or (version / artifact).is_file()
    assert config.input
    assert config.output


@pytest.mark.parametrize("model", ["digits", "digits_onnx", "digits_torchscript"])
def test_probabilities_have_a_label_for_every_digit(repository: Path, model: str) -> None:
    [output] = config_of(repository, model).output
    labels = (repository / model / output.label_filename).read_text().splitlines()
    assert len(labels) == output.dims[0] == 10
    assert labels[7] == "seven"


def test_the_ensemble_maps_only_tensors_that_its_models_have(repository: Path) -> None:
    for step in config_of(repository, "digits").ensemble_scheduling.step:
        config = config_of(repository, step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in config.input}
        assert set(step.output_map) == {tensor.name for tensor in config.output}


def test_identity_copies_every_datatype(repository: Path) -> None:
    config = config_of(repository, "identity")
    every = set(model_config_pb2.DataType.values()) - {model_config_pb2.TYPE_INVALID}
    assert {tensor.data_type for tensor in config.input} == every
    assert all(tensor.optional for tensor in config.input)
    copies = {tensor.name.replace("INPUT", "OUTPUT"): tensor.data_type for tensor in config.input}
    assert copies == {tensor.name: tensor.data_type for tensor in config.output}


def test_the_network_reads_the_held_out_digits(
    repository: Path, onnx_probabilities: NDArray[np.float32]
) -> None:
    with np.load(repository / "held_out.npz") as held_out:
        digits = held_out["digits"]
    assert len(digits) == 360
    assert np.mean(onnx_probabilities.argmax(axis=1) == digits) >= 0.97


def test_torchscript_and_onnx_answer_alike(
    repository: Path, images: NDArray[np.float32], onnx_probabilities: NDArray[np.float32]
) -> None:
    torch = pytest.importorskip("torch")
    with pytest.deprecated_call(match="torch.export"):
        module = torch.jit.load(repository / "digits_torchscript" / "1" / "model.pt")
    answer = module(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(answer, onnx_probabilities, atol=1e-5)


def test_a_second_build_changes_nothing_and_imports_nothing_slow(repository: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in repository.rglob("*") if path.name != ".stamp"}

    before = times()
    again = build(repository, "-X", "importtime")
    assert "up to date" in again.stdout
    assert times() == before
    assert "torch" not in again.stderr
    assert "numpy" not in again.stderr


def test_a_directory_that_was_not_built_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    refused = build(tmp_path)
    assert refused.returncode == 1
    assert "was not built by this script" in refused.stdout
    assert list(tmp_path.iterdir()) == [mine]
