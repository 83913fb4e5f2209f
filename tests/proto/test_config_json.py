"""The JSON form of configurations: as Triton prints it, and as a load request may spell it."""

import contextlib
import json
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.config import ConfigError, from_json, read_config, to_json, validated
from deuteron.proto.config.draft import read_json_config
from deuteron.proto.config.text import MAX_TEXT_BYTES
from deuteron.proto.schema import model_config_pb2 as pb

# Each pair was printed by Triton 24.10 for that configuration.
PLAIN = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [1,-1] reshape { shape: [-1] } }
output { name: "y" data_type: TYPE_STRING dims: 3 label_filename: "" }
parameters { key: "b" value { string_value: "c" } }
parameters { key: "a" value { string_value: "c" } }
instance_group [
  { count: 1 },
  { kind: KIND_CPU, count: 2, name: "q" rate_limiter { resources { name: "R" count: 1 } priority: 2} }
]
metric_tags { key: "k" value: "v" }
optimization { cuda { graphs: true graph_spec { batch_size: 1 input { key: "x" value { dim: [1,2] } } } } }
model_warmup {
  name: "w" batch_size: 0 inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 zero_data: true } }
}
"""
PLAIN_JSON = """
{"name":"plain","platform":"","backend":"python","runtime":"","version_policy":{"latest":{"num_versions":1}},
"max_batch_size":0,"input":[{"name":"x","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[1,-1],
"reshape":{"shape":[-1]},"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,
"is_non_linear_format_io":false}],"output":[{"name":"y","data_type":"TYPE_STRING","dims":[3],
"label_filename":"","is_shape_tensor":false,"is_non_linear_format_io":false}],"batch_input":[],
"batch_output":[],"optimization":{"priority":"PRIORITY_DEFAULT","cuda":{"graphs":true,"busy_wait_events":false,
"graph_spec":[{"batch_size":1,"input":{"x":{"dim":["1","2"]}}}],"output_copy_stream":false},
"input_pinned_memory":{"enable":true},"output_pinned_memory":{"enable":true},
"gather_kernel_buffer_threshold":0,"eager_batching":false},"instance_group":[{"name":"plain_0",
"kind":"KIND_CPU","count":1,"gpus":[],"secondary_devices":[],"profile":[],"passive":false,"host_policy":""},
{"name":"q","kind":"KIND_CPU","count":2,"rate_limiter":{"resources":[{"name":"R","global":false,"count":1}],
"priority":2},"gpus":[],"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],
"default_model_filename":"model.py","cc_model_filenames":{},"metric_tags":{"k":"v"},
"parameters":{"a":{"string_value":"c"},"b":{"string_value":"c"}},"model_warmup":[{"name":"w","batch_size":0,
"inputs":{"x":{"data_type":"TYPE_FP32","dims":[2],"zero_data":true}},"count":0}]}
"""
DYNAMIC = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [1] }
output { name: "y" data_type: TYPE_FP32 dims: [1] }
version_policy { specific { versions: [1] } }
dynamic_batching {
  max_queue_delay_microseconds: 10 priority_levels: 2 default_priority_level: 1
  priority_queue_policy { key: 2 value { default_timeout_microseconds: 5 timeout_action: DELAY } }
  default_queue_policy { max_queue_size: 3 }
}
response_cache { enable: false }
model_transaction_policy { decoupled: false }
"""
DYNAMIC_JSON = """
{"name":"dyn","platform":"","backend":"python","runtime":"","version_policy":{"specific":{"versions":[1]}},
"max_batch_size":8,"input":[{"name":"x","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[1],
"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,"is_non_linear_format_io":false}],
"output":[{"name":"y","data_type":"TYPE_FP32","dims":[1],"label_filename":"","is_shape_tensor":false,
"is_non_linear_format_io":false}],"batch_input":[],"batch_output":[],
"optimization":{"priority":"PRIORITY_DEFAULT","input_pinned_memory":{"enable":true},
"output_pinned_memory":{"enable":true},"gather_kernel_buffer_threshold":0,"eager_batching":false},
"dynamic_batching":{"preferred_batch_size":[8],"max_queue_delay_microseconds":10,"preserve_ordering":false,
"priority_levels":2,"default_priority_level":1,"default_queue_policy":{"timeout_action":"REJECT",
"default_timeout_microseconds":0,"allow_timeout_override":false,"max_queue_size":3},
"priority_queue_policy":{"2":{"timeout_action":"DELAY","default_timeout_microseconds":5,
"allow_timeout_override":false,"max_queue_size":0}}},"instance_group":[{"name":"dyn","kind":"KIND_CPU",
"count":1,"gpus":[],"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],
"default_model_filename":"model.py","cc_model_filenames":{},"metric_tags":{},"parameters":{},
"model_warmup":[],"model_transaction_policy":{"decoupled":false},"response_cache":{"enable":false}}
"""
SEQUENCE = """
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [1] }
output { name: "y" data_type: TYPE_FP32 dims: [1] }
sequence_batching {
  oldest { }
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 0.1] } }
  state {
    input_name: "si" output_name: "so" data_type: TYPE_FP32 dims: 1
    initial_state { data_type: TYPE_FP32 dims: 1 zero_data: true name: "i" }
  }
}
"""
SEQUENCE_JSON = """
{"name":"seq","platform":"","backend":"python","runtime":"","version_policy":{"latest":{"num_versions":1}},
"max_batch_size":8,"input":[{"name":"x","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[1],
"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,"is_non_linear_format_io":false}],
"output":[{"name":"y","data_type":"TYPE_FP32","dims":[1],"label_filename":"","is_shape_tensor":false,
"is_non_linear_format_io":false}],"batch_input":[],"batch_output":[],
"optimization":{"priority":"PRIORITY_DEFAULT","input_pinned_memory":{"enable":true},
"output_pinned_memory":{"enable":true},"gather_kernel_buffer_threshold":0,"eager_batching":false},
"sequence_batching":{"oldest":{"max_candidate_sequences":0,"preferred_batch_size":[8],
"max_queue_delay_microseconds":0,"preserve_ordering":false},"max_sequence_idle_microseconds":1000000,
"control_input":[{"name":"START","control":[{"kind":"CONTROL_SEQUENCE_START","int32_false_true":[],
"fp32_false_true":[0,0.1],"bool_false_true":[],"data_type":"TYPE_INVALID"}]}],"state":[{"input_name":"si",
"output_name":"so","data_type":"TYPE_FP32","dims":[1],"initial_state":[{"data_type":"TYPE_FP32","dims":["1"],
"name":"i","zero_data":true}],"use_same_buffer_for_input_output":false,"use_growable_memory":false}],
"iterative_sequence":false},"instance_group":[{"name":"seq","kind":"KIND_CPU","count":1,"gpus":[],
"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],"default_model_filename":"model.py",
"cc_model_filenames":{},"metric_tags":{},"parameters":{},"model_warmup":[]}
"""


@pytest.mark.parametrize(
    ("name", "text", "printed"),
    [
        ("plain", PLAIN, PLAIN_JSON),
        ("dyn", DYNAMIC, DYNAMIC_JSON),
        ("seq", SEQUENCE, SEQUENCE_JSON),
    ],
)
def test_a_configuration_prints_as_triton_prints_it(name: str, text: str, printed: str) -> None:
    """All members are there, in the same order, numbers as numbers and strings as strings."""
    document = to_json(validated(read_config(text.encode(), "", name, None)).message)
    assert document == json.loads(printed)
    assert list(document) == list(json.loads(printed))


def test_only_members_of_oneofs_and_messages_may_be_absent() -> None:
    assert to_json(pb.ModelConfig()) == {
        "name": "",
        "platform": "",
        "backend": "",
        "runtime": "",
        "max_batch_size": 0,
        "input": [],
        "output": [],
        "batch_input": [],
        "batch_output": [],
        "instance_group": [],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }


def test_floats_print_short_and_odd_ones_as_strings() -> None:
    config = pb.ModelConfig()
    config.sequence_batching.direct.minimum_slot_utilization = 0.1
    config.model_metrics.metric_control.add().histogram_options.buckets[:] = [
        0.1,
        2.0,
        float("inf"),
        float("-inf"),
        float("nan"),
    ]
    printed = to_json(config)
    assert printed["sequence_batching"]["direct"]["minimum_slot_utilization"] == 0.1
    assert json.dumps(printed["model_metrics"]["metric_control"][0]["histogram_options"]["buckets"]) == (
        '[0.1, 2, "Infinity", "-Infinity", "NaN"]'
    )


def test_what_was_printed_reads_back() -> None:
    for name, text in ("plain", PLAIN), ("dyn", DYNAMIC), ("seq", SEQUENCE):
        config = validated(read_config(text.encode(), "", name, None)).message
        assert from_json(json.dumps(to_json(config))) == config


def test_names_of_members_may_stand_without_quotes_as_protobuf_reads_them() -> None:
    config = from_json(r'{ name: "a { b: \" c: ", "maxBatchSize" : 4, sequence_batching : {direct:{}} }')
    assert (config.name, config.max_batch_size) == ('a { b: " c: ', 4)
    assert config.sequence_batching.HasField("direct")


def test_names_may_be_camel_case_and_enums_in_any_case() -> None:
    config = from_json(
        b'{"maxBatchSize": 4, "input": [{"name": "x", "dataType": "type_fp32", "dims": ["1", 2]}],'
        b'"modelWarmup": [{"inputs": {"x": {"data_type": "Type_Int8"}}}],'
        b'"optimization": {"priority": 1}, "instance_group": [{"kind": "kind_model"}]}'
    )
    assert config == text_format.Parse(
        'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [1, 2] }'
        'model_warmup { inputs { key: "x" value { data_type: TYPE_INT8 } } }'
        "optimization { priority: PRIORITY_MAX } instance_group { kind: KIND_MODEL }",
        pb.ModelConfig(),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{", "over:1:2: unexpected end of data"),
        (b"[]", "over: configuration must be a JSON object"),
        (b'{"nmae": "x"}', 'Message type "inference.ModelConfig" has no field named "nmae"'),
        (b'{"max_batch_size": "four"}', "Failed to parse max_batch_size field"),
        (
            b'{"input": [{"data_type": "TYPE_FP31"}], "instance_group": [{"kind": 9}]}',
            (
                "over: Enum type \"inference.DataType\" has no value 'TYPE_FP31'.\n"
                'over: Enum type "inference.ModelInstanceGroup.Kind" has no value 9.'
            ),
        ),
        (b'{"input": 5}', "repeated field input must be in [] which is 5"),
        (b'{"name": "\xff"}', "over:1:1: str is not valid UTF-8"),
        (b" " * (MAX_TEXT_BYTES + 1), "configuration has 1048577 bytes, which exceeds the maximum"),
    ],
)
def test_what_is_no_configuration_is_refused_with_the_reason(text: bytes, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(text, "over")
    assert complaint in caught.value.report
    assert all(line.startswith("over") for line in caught.value.report.split("\n"))


def test_a_configuration_in_json_keeps_the_rules_of_one_in_text() -> None:
    with pytest.raises(ConfigError) as caught:
        read_json_config(b'{"backend": "python", "max_batch_size": -1}', "over", "m", None)
    assert caught.value.report == "over: 'max_batch_size' must be non-negative value for m"


NAMES = st.sampled_from(
    [each.name for each in pb.ModelConfig.DESCRIPTOR.fields]
    + [each.name for each in pb.ModelInput.DESCRIPTOR.fields]
    + ["key", "value", "latest", "oldest", "direct", "step", "dataType"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["", "type_fp32", "KIND_GPU", "-1", "NaN", "é"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
)


@given(st.one_of(st.binary(), st.dictionaries(NAMES, VALUES).map(lambda each: json.dumps(each).encode())))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """Whatever comes, it is a configuration that prints, or a ConfigError."""
    with contextlib.suppress(ConfigError):
        json.dumps(to_json(from_json(text)))
