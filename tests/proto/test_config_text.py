"""The text form of configurations: what is read, where it stands, and what is said of text that is none."""

import re

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from deuteron.proto.config import Complaint, ConfigError, parse_text
from deuteron.proto.config.complaint import parent
from deuteron.proto.config.places import MAX_COMPLAINTS
from deuteron.proto.config.text import MAX_TEXT_BYTES
from deuteron.proto.errors import Fault
from deuteron.proto.schema import model_config_pb2 as pb

EVERY_FORM = """
# Fields, lists and brackets in every form that the text format has.
name: "two"  'strings' max_batch_size: 0x10;
input [
  { name: "a", data_type: TYPE_FP32
    dims: [ 1,
      2 ] },
  < name: "b" dims: 3 dims: 4 >
]
input: { name: "c" }
version_policy { all { } }
parameters { key: "x.[0]\\"" value: { string_value: "v" } }
dynamic_batching {
  priority_queue_policy { value { max_queue_size: 3 } key: 2 }
  default_queue_policy { timeout_action: DELAY }
}
"""


def complaints_about(text: bytes) -> list[str]:
    """Return what is said of a text, each as `line:column: message`."""
    try:
        parse_text(text, "")
    except ConfigError as error:
        return [str(each) for each in error.complaints]
    return []


def test_a_text_becomes_the_message_that_protobuf_reads() -> None:
    message, _ = parse_text(EVERY_FORM.encode(), "config.pbtxt")
    assert message == text_format.Parse(EVERY_FORM, pb.ModelConfig())


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        ("", 1, 1),
        ("name", 3, 1),
        ("max_batch_size", 3, 24),
        ("input", 4, 1),
        ("input[0]", 5, 3),
        ("input[0].data_type", 5, 16),
        ("input[0].dims", 6, 5),
        ("input[0].dims[1]", 7, 7),
        ("input[1].dims[0]", 8, 15),
        ("input[1].dims[1]", 8, 23),
        ("input[2].name", 10, 10),
        ("version_policy.all", 11, 18),
        ('parameters["x.[0]\\""]', 12, 1),
        ('parameters["x.[0]\\""].string_value', 12, 38),
        ("dynamic_batching.priority_queue_policy[2].max_queue_size", 14, 35),
        ("dynamic_batching.default_queue_policy.timeout_action", 15, 26),
    ],
)
def test_every_field_has_its_place(path: str, line: int, column: int) -> None:
    _, places = parse_text(EVERY_FORM.encode(), "")
    assert places.find(path) == (line, column)


@pytest.mark.parametrize(
    ("path", "enclosing"),
    [
        ("input[2].dims[5]", "input[2]"),
        ("output[0].name", ""),
        ('parameters["none"].string_value', "parameters"),
        ("optimization.cuda.graphs", ""),
    ],
)
def test_a_field_that_is_not_in_the_text_stands_where_what_encloses_it_does(
    path: str, enclosing: str
) -> None:
    _, places = parse_text(EVERY_FORM.encode(), "")
    assert places.find(path) == places.find(enclosing)


@pytest.mark.parametrize(
    ("path", "enclosing"),
    [
        ("input[0].dims", "input[0]"),
        ("input[0]", "input"),
        ("input", ""),
        ('parameters["a.b[0]"].string_value', 'parameters["a.b[0]"]'),
        ('parameters["a\\"]"]', "parameters"),
    ],
)
def test_a_path_leads_up_segment_by_segment(path: str, enclosing: str) -> None:
    assert parent(path) == enclosing


def test_unknown_names_and_the_first_syntax_error_are_told_at_once() -> None:
    text = b"""foo: 1
bar { x: [ 1, { y: 2 } ] } baz < > qux: "a" "b"
input { data_type: TYPE_FLOAT nope: [ 1 ] format: 7 }
instance_group { kind: KIND_TPU }
max_batch_size: "four"
last: -3"""
    assert complaints_about(text) == [
        '1:1: Message type "inference.ModelConfig" has no field named "foo".',
        '2:1: Message type "inference.ModelConfig" has no field named "bar".',
        '2:28: Message type "inference.ModelConfig" has no field named "baz".',
        '2:36: Message type "inference.ModelConfig" has no field named "qux".',
        '3:20: Enum type "inference.DataType" has no value named TYPE_FLOAT.',
        '3:31: Message type "inference.ModelInput" has no field named "nope".',
        '3:51: Enum type "inference.ModelInput.Format" has no value with number 7.',
        '4:24: Enum type "inference.ModelInstanceGroup.Kind" has no value named KIND_TPU.',
        '6:1: Message type "inference.ModelConfig" has no field named "last".',
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'name: "a', "1:7: String missing ending quote: '\"a'"),
        (b'\nmax_batch_size: "4"', '2:17: Couldn\'t parse integer: "4"'),
        (b"max_batch_size: 99999999999", "1:17: Value out of range: 99999999999"),
        (
            b'name: "a" name: "b"',
            '1:17: Message type "inference.ModelConfig" should not have multiple "name" fields.',
        ),
        (b"input {\n name: 'a'", '2:8: Expected "}".'),
        (b"dims", '1:1: Message type "inference.ModelConfig" has no field named "dims".'),
        (b"max_batch_size 4", '1:16: Expected ":".'),
        (b"}", "1:1: Expected identifier or number, got }."),
        (b"[a.b] { }", '1:4: Message type "inference.ModelConfig" does not have extensions.'),
        (
            b"dynamic_batching { } sequence_batching { }",
            (
                '1:22: Field "sequence_batching" is specified along with field "dynamic_batching", another '
                'member of oneof "scheduling_choice" for message type "inference.ModelConfig".'
            ),
        ),
        (
            b'name: "\\377"',
            (
                "1:13: Couldn't parse string: 'utf-8' codec can't decode byte 0xff in position 0: "
                "invalid start byte"
            ),
        ),
        (b'name: "a"\nruntime: "\xff"', "2:11: configuration is not UTF-8 text: invalid start byte"),
        (
            b"input { data_type: 99999999999 }",
            '1:20: Enum type "inference.DataType" has no value with number 99999999999.',
        ),
        (
            b" " * (MAX_TEXT_BYTES + 1),
            "1:1: configuration has 1048577 bytes, which exceeds the maximum of 1048576 bytes",
        ),
    ],
)
def test_what_is_no_configuration_is_told_with_its_place(text: bytes, complaint: str) -> None:
    assert complaints_about(text) == [complaint]


def test_complaints_have_a_bound_in_number_and_in_length() -> None:
    assert len(complaints_about(b"a: 1 " * 10_000)) == MAX_COMPLAINTS
    assert all(len(each) < 500 for each in complaints_about(b'name: "' + b"a" * 10_000))


def test_a_complaint_reads_as_editors_expect() -> None:
    assert str(Complaint("odd", "name", "m/config.pbtxt", 3, 4)) == "m/config.pbtxt:3:4: odd"
    assert str(Complaint("odd", "name", "m/config.pbtxt")) == "m/config.pbtxt: odd"
    assert str(Complaint("odd")) == "odd"


def test_the_error_is_the_callers_and_has_the_first_complaint_for_its_message() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_text(b"foo: 1\nbar: 2", "f")
    assert caught.value.fault is Fault.INVALID_ARG
    assert caught.value.message == 'Message type "inference.ModelConfig" has no field named "foo".'
    assert [each.line for each in caught.value.complaints] == [1, 2]


WORDS = """
name input dims data_type parameters key value dynamic_batching kind instance_group step input_map inputs
ensemble_scheduling model_warmup optimization : { } < > [ ] , ; " ' \\ # - 1 0x 08 1e9 -1 nan inf true é
TYPE_FP32 KIND_GPU "a" 99999999999999999999
"""
FRAGMENTS = st.sampled_from([*WORDS.split(), " ", "\n", "\x00"])


@given(st.one_of(st.binary(), st.lists(FRAGMENTS).map(lambda parts: "".join(parts).encode())))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """Whatever comes, it is a configuration or a ConfigError whose complaints point into the text."""
    try:
        parse_text(text, "f")
    except ConfigError as error:
        lines = text.decode(errors="replace").split("\n")
        for each in error.complaints:
            assert 1 <= each.line <= len(lines)
            assert 1 <= each.column <= len(lines[each.line - 1]) + 1


def declared_paths(message: Message, prefix: str = "") -> dict[str, str]:
    """Return the paths of all fields that are set, and the names they are spelt with."""
    paths: dict[str, str] = {}
    descriptor: Descriptor = message.DESCRIPTOR  # type: ignore[assignment]
    for field in descriptor.fields:
        value = getattr(message, field.name)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            paths |= {f'{prefix}{field.name}["{key}"]': field.name for key in value}
        elif field.is_repeated:
            for index, each in enumerate(value):
                path = f"{prefix}{field.name}[{index}]"
                paths[path] = field.name
                if field.message_type is not None:
                    paths |= declared_paths(each, f"{path}.")
        elif field.message_type is not None and message.HasField(field.name):
            paths[f"{prefix}{field.name}"] = field.name
            paths |= declared_paths(value, f"{prefix}{field.name}.")
        elif field.message_type is None and value != field.default_value:
            paths[f"{prefix}{field.name}"] = field.name
    return paths


TENSORS = st.builds(
    pb.ModelInput,
    name=st.text("ab{}[]:#'\"\\\n", max_size=4),
    data_type=st.sampled_from(pb.DataType.values()),
    dims=st.lists(st.integers(-1, 9), max_size=3),
    optional=st.booleans(),
)
CONFIGS = st.builds(
    pb.ModelConfig,
    name=st.text("ab{}[]:#'\"\\\n", max_size=4),
    max_batch_size=st.integers(-1, 9),
    input=st.lists(TENSORS, max_size=3),
    metric_tags=st.dictionaries(st.text("ab", max_size=2), st.text("{}[]", max_size=2), max_size=2),
    instance_group=st.lists(st.builds(pb.ModelInstanceGroup, count=st.integers(0, 3)), max_size=2),
)


@given(CONFIGS, st.booleans())
def test_the_places_agree_with_the_text(config: pb.ModelConfig, one_line: bool) -> None:
    """Where a field is said to stand, its name stands, whatever the text looks like."""
    text = text_format.MessageToString(config, as_one_line=one_line)
    message, places = parse_text(text.encode(), "")
    assert message == config
    lines = text.split("\n")
    for path, name in declared_paths(config).items():
        line, column = places.find(path)
        rest = lines[line - 1][column - 1 :]
        if not re.fullmatch(r".*dims\[\d+\]", path):
            assert rest.startswith(name), path
        assert path in places.spots
