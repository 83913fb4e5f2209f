"""The frozen ModelConfig: the facts of a configuration, plainly typed."""

from dataclasses import FrozenInstanceError

import pytest
from google.protobuf import text_format

from deuteron.proto.config import (
    AllVersions,
    DynamicBatching,
    Ensemble,
    EnsembleStep,
    InputSpec,
    InstanceGroup,
    InstanceKind,
    Latest,
    ModelConfig,
    OutputSpec,
    QueuePolicy,
    Specific,
    TimeoutAction,
    VersionPolicy,
    WarmupData,
    WarmupInput,
    WarmupSample,
)
from deuteron.proto.datatypes import Datatype
from deuteron.proto.schema import model_config_pb2 as pb


def frozen(text: str) -> ModelConfig:
    """Return the facts of a text."""
    return ModelConfig.from_message(text_format.Parse(text, pb.ModelConfig()))


def test_it_tells_what_goes_in_and_comes_out() -> None:
    config = frozen(
        'input { name: "x" data_type: TYPE_STRING dims: [1, -1] reshape { shape: -1 } optional: true }'
        'output { name: "y" data_type: TYPE_BF16 dims: 2 reshape { } label_filename: "l.txt" }'
    )
    assert config.inputs == (InputSpec("x", Datatype.BYTES, (1, -1), reshape=(-1,), optional=True),)
    assert config.outputs == (OutputSpec("y", Datatype.BF16, (2,), reshape=(), label_filename="l.txt"),)


def test_it_tells_how_requests_are_batched() -> None:
    config = frozen(
        "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100"
        " preserve_ordering: true priority_levels: 2 default_priority_level: 1"
        " default_queue_policy { max_queue_size: 7 allow_timeout_override: true }"
        " priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 5 } } }"
    )
    assert config.max_batch_size == 8
    assert config.dynamic_batching == DynamicBatching(
        preferred_batch_sizes=(4, 8),
        max_queue_delay_us=100,
        preserve_ordering=True,
        priority_levels=2,
        default_priority_level=1,
        default_queue_policy=QueuePolicy(max_queue_size=7, allow_timeout_override=True),
        priority_queue_policy={2: QueuePolicy(TimeoutAction.DELAY, default_timeout_us=5)},
    )
    assert config.sequence_batching is None
    assert config.ensemble is None


def test_without_a_scheduling_choice_there_is_none() -> None:
    config = frozen("")
    assert (config.dynamic_batching, config.sequence_batching, config.ensemble) == (None, None, None)


def test_it_hands_on_how_sequences_are_served() -> None:
    config = frozen("sequence_batching { oldest { max_candidate_sequences: 3 } }")
    assert config.sequence_batching is not None
    assert config.sequence_batching.oldest.max_candidate_sequences == 3
    assert config.dynamic_batching is None


def test_it_tells_the_steps_of_an_ensemble() -> None:
    config = frozen(
        'ensemble_scheduling { max_inflight_requests: 3 step { model_name: "m" model_version: -1'
        ' input_map { key: "i" value: "x" } output_map { key: "o" value: "y" } } }'
    )
    assert config.ensemble == Ensemble((EnsembleStep("m", -1, {"i": "x"}, {"o": "y"}),), 3)


def test_it_tells_where_instances_run() -> None:
    config = frozen('instance_group { name: "g" kind: KIND_GPU count: 2 gpus: [0, 1] passive: true }')
    assert config.instance_groups == (InstanceGroup("g", InstanceKind.GPU, 2, (0, 1), passive=True),)


def test_it_tells_what_runs_first_and_leaves_out_what_is_skipped() -> None:
    config = frozen(
        'model_warmup { name: "w" batch_size: 2 inputs { key: "x" value { data_type: TYPE_INT8 dims: 3'
        ' input_data_file: "f" } } } model_warmup { name: "skipped" inputs { key: "x" value { } } }'
    )
    data = WarmupInput(Datatype.INT8, (3,), WarmupData.FILE, "f")
    assert config.warmup == (WarmupSample("w", 2, {"x": data}, count=1),)


def test_it_tells_parameters_and_policies() -> None:
    config = frozen(
        'name: "m" platform: "p" backend: "b" runtime: "r" default_model_filename: "f"'
        'parameters { key: "k" value { string_value: "v" } } response_cache { enable: true }'
        "model_transaction_policy { decoupled: true }"
    )
    assert (config.name, config.platform, config.backend, config.runtime) == ("m", "p", "b", "r")
    assert config.default_model_filename == "f"
    assert config.parameters == {"k": "v"}
    assert config.response_cache
    assert config.decoupled


@pytest.mark.parametrize(
    ("text", "policy", "served"),
    [
        ("latest { num_versions: 2 }", Latest(2), (3, 10)),
        ("latest { num_versions: 0 }", Latest(0), ()),
        ("latest { num_versions: 9 }", Latest(9), (1, 3, 10)),
        ("all { }", AllVersions(), (1, 3, 10)),
        ("", AllVersions(), (1, 3, 10)),
        ("specific { versions: [3, 1, 7] }", Specific((3, 1, 7)), (1, 3)),
    ],
)
def test_a_version_policy_selects_from_the_versions_there_are(
    text: str, policy: VersionPolicy, served: tuple[int, ...]
) -> None:
    config = frozen(f"version_policy {{ {text} }}")
    assert config.version_policy == policy
    assert policy.select([10, 1, 3]) == served


def test_nobody_changes_it() -> None:
    message = pb.ModelConfig(name="before")
    config = ModelConfig.from_message(message)
    message.name = "after"
    assert config.message.name == "before"
    with pytest.raises(FrozenInstanceError):
        config.name = "after"  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.parameters["k"] = "v"  # type: ignore[index]
