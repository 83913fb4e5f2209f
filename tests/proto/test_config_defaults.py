"""What is filled into a configuration: from file names, from defaults, from the machine and by a backend."""

import pytest
from google.protobuf import text_format
from google.protobuf.message import Message

from deuteron.proto.config import (
    ConfigError,
    Gpus,
    InstanceKind,
    VersionFiles,
    completed,
    normalise,
    normalise_instance_groups,
    read_config,
    validated,
)
from deuteron.proto.config.platforms import fill_backend
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.schema import model_config_pb2 as pb


def config(text: str) -> pb.ModelConfig:
    """Return the message of a text."""
    return text_format.Parse(text, pb.ModelConfig())


def spelt(message: Message) -> str:
    """Return a message in one line."""
    return text_format.MessageToString(message, as_one_line=True)


# The backend, from names


@pytest.mark.parametrize(
    ("files", "directories", "backend", "platform", "filename"),
    [
        ("model.plan", "", "tensorrt", "tensorrt_plan", "model.plan"),
        ("model.onnx", "", "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("", "model.onnx", "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("model.xml model.bin", "", "openvino", "", "model.xml"),
        ("model.pt", "", "pytorch", "pytorch_libtorch", "model.pt"),
        ("model.pt2", "", "pytorch", "torch_aoti", "model.pt2"),
        ("model.py", "", "python", "", "model.py"),
        ("", "model.savedmodel", "tensorflow", "tensorflow_savedmodel", "model.savedmodel"),
        ("model.graphdef", "", "tensorflow", "tensorflow_graphdef", "model.graphdef"),
        ("model.py model.pt model.onnx", "", "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("model.py model.pt", "", "pytorch", "pytorch_libtorch", "model.pt"),
    ],
)
def test_files_tell_the_backend(
    files: str, directories: str, backend: str, platform: str, filename: str
) -> None:
    there = VersionFiles(frozenset(files.split()), frozenset(directories.split()))
    filled = fill_backend(pb.ModelConfig(), "m", there)
    assert (filled.name, filled.backend, filled.platform) == ("m", backend, platform)
    assert filled.default_model_filename == filename


@pytest.mark.parametrize(
    ("given", "backend", "platform", "filename"),
    [
        ('platform: "onnxruntime_onnx"', "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('platform: "tensorrt_plan"', "tensorrt", "tensorrt_plan", "model.plan"),
        ('platform: "torch_aoti"', "pytorch", "torch_aoti", "model.pt2"),
        ('platform: "tensorflow_graphdef"', "tensorflow", "tensorflow_graphdef", "model.graphdef"),
        ('default_model_filename: "model.pt"', "pytorch", "pytorch_libtorch", "model.pt"),
        ('default_model_filename: "model.py"', "python", "", "model.py"),
        ('backend: "onnxruntime"', "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ('backend: "onnxruntime" default_model_filename: "a"', "onnxruntime", "onnxruntime_onnx", "a"),
        ('backend: "pytorch"', "pytorch", "pytorch_libtorch", "model.pt"),
        ('backend: "pytorch" platform: "torch_aoti"', "pytorch", "torch_aoti", "model.pt2"),
        ('backend: "python"', "python", "", "model.py"),
        ('backend: "tensorflow"', "tensorflow", "", ""),
        ('backend: "mine"', "mine", "", ""),
        ('platform: "ensemble"', "", "ensemble", ""),
    ],
)
def test_what_is_configured_tells_the_rest(given: str, backend: str, platform: str, filename: str) -> None:
    filled = fill_backend(config(given), "m", None)
    assert (filled.backend, filled.platform, filled.default_model_filename) == (backend, platform, filename)


def test_a_given_backend_is_not_overruled_by_files() -> None:
    filled = fill_backend(config('backend: "python"'), "m", VersionFiles(frozenset({"model.onnx"})))
    assert filled.backend == "python"
    assert filled.default_model_filename == "model.py"


def test_the_pytorch_backend_takes_the_file_that_is_there() -> None:
    filled = fill_backend(config('backend: "pytorch"'), "m", VersionFiles(frozenset({"model.pt2"})))
    assert (filled.platform, filled.default_model_filename) == ("torch_aoti", "model.pt2")


def test_a_model_may_name_its_backend_after_a_dot() -> None:
    filled = fill_backend(pb.ModelConfig(), "model.identity", VersionFiles())
    assert (filled.backend, filled.default_model_filename) == ("identity", "model.identity")


def test_a_model_of_no_backend_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(b"max_batch_size: 4", "m/config.pbtxt", "m", VersionFiles())
    assert caught.value.report == (
        "m/config.pbtxt:1:1: Invalid model name: Could not determine backend for model 'm' with no backend "
        "in model configuration. Expected model name of the form 'model.<backend_name>'."
    )


# Defaults that do not depend on the machine

PINNED = "optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } } "
LATEST = "version_policy { latest { num_versions: 1 } } "


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ("", LATEST + PINNED),
        ("version_policy { all { } }", PINNED),
        (
            "optimization { priority: PRIORITY_MAX input_pinned_memory { enable: false } }",
            LATEST + "optimization { output_pinned_memory { enable: true } }",
        ),
        ("dynamic_batching { }", LATEST + PINNED),
        (
            "max_batch_size: 4 dynamic_batching { }",
            LATEST + PINNED + "dynamic_batching { preferred_batch_size: 4 }",
        ),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: 2 }", LATEST + PINNED),
        (
            "sequence_batching { }",
            LATEST + PINNED + "sequence_batching { max_sequence_idle_microseconds: 1000000 }",
        ),
        (
            "max_batch_size: 4 sequence_batching { oldest { } max_sequence_idle_microseconds: 7 }",
            LATEST + PINNED + "sequence_batching { oldest { preferred_batch_size: 4 } }",
        ),
        ("ensemble_scheduling { }", LATEST),
    ],
)
def test_defaults_are_written_out_once(given: str, added: str) -> None:
    """Normalisation adds just these fields, and adds nothing when run again."""
    expected = config(given)
    expected.MergeFrom(config(added))
    normal = normalise(config(given))
    assert spelt(normal) == spelt(expected)
    assert spelt(normalise(normal)) == spelt(normal)


def test_normalisation_leaves_what_it_was_given_alone() -> None:
    given = config("dynamic_batching { } max_batch_size: 4")
    before = given.SerializeToString(deterministic=True)
    normalise(given)
    normalise_instance_groups(given, Gpus((0,)))
    fill_backend(given, "m.x", None)
    assert given.SerializeToString(deterministic=True) == before


# Instance groups

CPU_ONLY = None
TWO_GPUS = Gpus((0, 1))


@pytest.mark.parametrize(
    ("gpus", "given", "groups"),
    [
        (CPU_ONLY, "", ['name: "m" kind: KIND_CPU count: 1']),
        (CPU_ONLY, 'backend: "onnxruntime"', ['name: "m" kind: KIND_CPU count: 2']),
        (TWO_GPUS, 'backend: "onnxruntime"', ['name: "m" kind: KIND_GPU count: 1 gpus: 0 gpus: 1']),
        (
            CPU_ONLY,
            'instance_group { } instance_group { name: "g" count: 3 } instance_group { kind: KIND_MODEL }',
            [
                'name: "m_0" kind: KIND_CPU count: 1',
                'name: "g" kind: KIND_CPU count: 3',
                'name: "m_2" kind: KIND_MODEL count: 1',
            ],
        ),
        (TWO_GPUS, "instance_group { gpus: 1 }", ['name: "m_0" kind: KIND_GPU count: 1 gpus: 1']),
        (TWO_GPUS, "instance_group { gpus: 5 }", ['name: "m_0" kind: KIND_CPU count: 1 gpus: 5']),
        (
            TWO_GPUS,
            "instance_group { kind: KIND_GPU count: 2 }",
            ['name: "m_0" kind: KIND_GPU count: 2 gpus: 0 gpus: 1'],
        ),
        (Gpus(), "instance_group { }", ['name: "m_0" kind: KIND_CPU count: 1']),
        (CPU_ONLY, "ensemble_scheduling { }", []),
    ],
)
def test_instance_groups_get_name_kind_count_and_gpus(
    gpus: Gpus | None, given: str, groups: list[str]
) -> None:
    normal = normalise_instance_groups(config(f'name: "m" {given}'), gpus)
    assert list(normal.instance_group) == [
        text_format.Parse(group, pb.ModelInstanceGroup()) for group in groups
    ]


@pytest.mark.parametrize(
    ("gpus", "preferred", "given", "group"),
    [
        (CPU_ONLY, "kind: KIND_CPU count: 4", "", 'name: "m" kind: KIND_CPU count: 4'),
        (CPU_ONLY, "kind: KIND_GPU count: 4", "", 'name: "m" kind: KIND_CPU count: 1'),
        (
            CPU_ONLY,
            "kind: KIND_CPU count: 4",
            "instance_group { }",
            'name: "m_0" kind: KIND_CPU count: 4',
        ),
        (TWO_GPUS, "kind: KIND_GPU gpus: [1, 5]", "", 'name: "m" kind: KIND_GPU count: 1 gpus: 1'),
        (TWO_GPUS, "kind: KIND_AUTO gpus: 1", "", 'name: "m" kind: KIND_GPU count: 1 gpus: 1'),
        (
            TWO_GPUS,
            "kind: KIND_GPU gpus: [0, 1] count: 2",
            "instance_group { gpus: 1 }",
            'name: "m_0" kind: KIND_GPU count: 2 gpus: 1',
        ),
        (
            TWO_GPUS,
            "kind: KIND_GPU gpus: 1 count: 2",
            "instance_group { kind: KIND_GPU }",
            'name: "m_0" kind: KIND_GPU count: 2 gpus: 1',
        ),
        (
            TWO_GPUS,
            "kind: KIND_GPU gpus: 7 count: 2",
            "instance_group { kind: KIND_GPU }",
            'name: "m_0" kind: KIND_GPU count: 1 gpus: 0 gpus: 1',
        ),
    ],
)
def test_a_backend_has_preferences(gpus: Gpus | None, preferred: str, given: str, group: str) -> None:
    preference = text_format.Parse(preferred, pb.ModelInstanceGroup())
    normal = normalise_instance_groups(config(f'name: "m" {given}'), gpus, [preference])
    assert list(normal.instance_group) == [text_format.Parse(group, pb.ModelInstanceGroup())]


# What a backend completes


def test_a_backend_completes_batching_tensors_scheduling_and_nothing_else() -> None:
    draft = read_config(b'backend: "python" input { name: "a" }', "f", "m", None)
    proposed = config(
        'name: "other" backend: "other" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 1 }'
        'output { name: "y" data_type: TYPE_FP32 dims: 1 } dynamic_batching { } parameters { key: "k" }'
        "model_transaction_policy { decoupled: true } instance_group { count: 7 }"
    )
    done = validated(completed(draft, proposed))
    assert (done.name, done.backend, done.max_batch_size) == ("m", "python", 4)
    assert [each.name for each in done.inputs] == ["x"]
    assert [each.name for each in done.outputs] == ["y"]
    assert done.dynamic_batching is not None
    assert done.dynamic_batching.preferred_batch_sizes == (4,)
    assert done.decoupled
    assert not done.parameters
    assert [(group.kind, group.count) for group in done.instance_groups] == [(InstanceKind.CPU, 1)]


def test_a_backend_keeps_a_scheduling_choice_as_it_is() -> None:
    draft = read_config(
        b'backend: "python" dynamic_batching { max_queue_delay_microseconds: 5 }', "f", "m", None
    )
    done = validated(completed(draft, config("dynamic_batching { max_queue_delay_microseconds: 9 }")))
    assert done.dynamic_batching is not None
    assert done.dynamic_batching.max_queue_delay_us == 5


def test_a_backend_may_not_choose_another_scheduling() -> None:
    draft = read_config(b'backend: "python" dynamic_batching { }', "f", "m", None)
    with pytest.raises(InferError) as caught:
        completed(draft, config("sequence_batching { }"))
    assert caught.value.fault is Fault.INTERNAL
    assert caught.value.message == "Cannot update scheduling choice from 11 to 13 when auto-completing."


def test_a_complaint_about_what_the_backend_added_stands_at_the_beginning() -> None:
    draft = read_config(b'\nbackend: "python"', "f", "m", None)
    with pytest.raises(ConfigError) as caught:
        validated(completed(draft, config('output { name: "y" }')))
    assert caught.value.report.split("\n")[0] == "f:1:1: model output 'y' must specify 'data_type' for m"
