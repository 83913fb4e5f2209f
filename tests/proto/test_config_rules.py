"""Every rule of a model configuration: a text, and what is said of it at which line and column.

The cases stand in `config_rules/*.txt`:

    == what the case is about
    a configuration of a model named MODEL, in any number of lines
    => line:column: a complaint

The complaints are all there are, in Triton's order and with Triton's texts; a case without any is a
configuration that passes. Where one names no backend, `backend: "python"` is added after its last line.
"""

from pathlib import Path

import pytest

from deuteron.proto.config import ConfigError, Gpus, VersionFiles, read_config, validate, validated
from deuteron.proto.schema import model_config_pb2 as pb

CASES = [
    pytest.param(lines, id=f"{file.stem}: {lines[0]}")
    for file in sorted((Path(__file__).parent / "config_rules").glob("*.txt"))
    for lines in (case.strip().split("\n") for case in file.read_text().split("== ")[1:])
]


def complaints_about(text: str, gpus: Gpus | None = None) -> list[str]:
    """Return what is said of a configuration of MODEL, each as `line:column: message`."""
    if "backend:" not in text and "platform:" not in text:
        text += '\nbackend: "python"'
    try:
        validated(read_config(text.encode(), "", "MODEL", VersionFiles()), gpus)
    except ConfigError as error:
        return [str(each) for each in error.complaints]
    return []


@pytest.mark.parametrize("lines", CASES)
def test_a_broken_rule_is_told_with_its_place(lines: list[str]) -> None:
    text = "\n".join(line for line in lines[1:] if not line.startswith("=> "))
    assert complaints_about(text) == [line[3:] for line in lines if line.startswith("=> ")]


def test_gpus_that_are_not_there_are_told_with_those_that_are() -> None:
    complaints = complaints_about("instance_group { kind: KIND_GPU gpus: [ 0, 3 ] }", Gpus((0, 1)))
    assert complaints == [
        (
            "1:44: instance group MODEL_0 of model MODEL specifies invalid or unsupported gpu id 3. GPUs "
            "with at least the minimum required CUDA compute compatibility of 6.000000 are: 0, 1"
        )
    ]


def test_a_gpu_group_needs_a_gpu() -> None:
    assert complaints_about("instance_group { kind: KIND_GPU }", Gpus()) == [
        "1:18: instance group MODEL_0 of model MODEL has kind KIND_GPU but no GPUs are available"
    ]


def test_what_is_wrong_before_the_backend_is_asked_is_told_all_at_once() -> None:
    """Complaints of different rules come together, and the message of the error is the first of them."""
    text = b'max_batch_size: -1\nplatform: "x"\nmodel_metrics { metric_control { } }'
    with pytest.raises(ConfigError) as caught:
        read_config(text, "m/config.pbtxt", "m", None)
    assert caught.value.message == "unexpected platform type 'x' for m"
    assert caught.value.report.split("\n") == [
        "m/config.pbtxt:2:1: unexpected platform type 'x' for m",
        "m/config.pbtxt:1:1: 'max_batch_size' must be non-negative value for m",
        "m/config.pbtxt:3:17: metric control must specify 'metric_identifier'",
        "m/config.pbtxt:3:17: metric control must specify 'histogram_options'",
    ]


def test_a_message_that_nobody_filled_in_or_normalised_lacks_what_that_adds() -> None:
    assert [each.message for each in validate(pb.ModelConfig())] == [
        "model configuration must specify 'name'",
        "unexpected platform type '' for ",
        "must specify 'version policy' for ",
        "must specify one or more 'instance group's for ",
    ]


def test_a_gpu_group_that_nobody_normalised_has_no_gpus() -> None:
    config = pb.ModelConfig(name="m", instance_group=[pb.ModelInstanceGroup(name="g", kind="KIND_GPU")])
    message = "instance group g of model m has kind KIND_GPU but specifies no GPUs"
    assert message in [each.message for each in validate(config, Gpus((0,)))]


def test_a_configuration_may_be_incomplete_until_the_backend_was_asked() -> None:
    """Inputs are not judged in a draft: the backend may still complete them."""
    draft = read_config(b'backend: "python"\ninput { name: "x" }', "f", "m", None)
    with pytest.raises(ConfigError) as caught:
        validated(draft)
    assert caught.value.report.split("\n") == [
        "f:2:1: model input 'x' must specify 'data_type' for m",
        "f:2:1: model input 'x' must specify 'dims' for m",
    ]
