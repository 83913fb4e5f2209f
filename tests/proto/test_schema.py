"""The schema is Triton's on the wire and lives beside Triton's own client in one process."""

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from tritonclient.grpc import model_config_pb2 as published_model_config
from tritonclient.grpc import service_pb2 as published_service

from deuteron.proto.schema import grpc_service_pb2, health_pb2, model_config_pb2

ROOT = Path(__file__).resolve().parent.parent.parent

FILES = [
    pytest.param(grpc_service_pb2.DESCRIPTOR, published_service.DESCRIPTOR, id="grpc_service"),
    pytest.param(model_config_pb2.DESCRIPTOR, published_model_config.DESCRIPTOR, id="model_config"),
]

RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


def all_messages(messages: Mapping[str, Descriptor]) -> dict[str, Descriptor]:
    """Return the messages and all that are nested in them by full name."""
    found = {}
    for message in messages.values():
        found[message.full_name] = message
        found |= all_messages(message.nested_types_by_name)
    return found


def spelling(field: FieldDescriptor) -> tuple[object, ...]:
    """Return what of a field is visible on the wire, in text or in JSON."""
    return (
        field.name,
        field.number,
        field.type,
        field.is_repeated,
        field.has_presence,
        field.containing_oneof.name if field.containing_oneof else None,
        field.message_type.full_name if field.message_type else None,
        field.enum_type.full_name if field.enum_type else None,
    )


def is_own(field: FieldDescriptor) -> bool:
    """Tell whether Triton does not know a field."""
    return field.number >= 1000


@pytest.mark.parametrize(("ours", "published"), FILES)
def test_every_message_has_the_published_fields_in_the_published_order(
    ours: FileDescriptor, published: FileDescriptor
) -> None:
    """Names, numbers, types, oneofs and presence agree; so does the order, which JSON shows."""
    here, there = all_messages(ours.message_types_by_name), all_messages(published.message_types_by_name)
    assert here.keys() == there.keys()
    for name, message in here.items():
        assert [spelling(f) for f in message.fields if not is_own(f)] == [
            spelling(f) for f in there[name].fields
        ]


@pytest.mark.parametrize(("ours", "published"), FILES)
def test_every_enum_has_the_published_values(ours: FileDescriptor, published: FileDescriptor) -> None:
    """Enums agree in names and numbers, at the top and inside messages."""

    def enums(file: FileDescriptor) -> dict[str, list[tuple[str, int]]]:
        nested = [e for m in all_messages(file.message_types_by_name).values() for e in m.enum_types]
        return {
            e.full_name: [(v.name, v.number) for v in e.values]
            for e in [*nested, *file.enum_types_by_name.values()]
        }

    assert enums(ours) == enums(published)


def test_the_service_has_the_published_methods() -> None:
    """Every method of the inference service takes, answers and streams what the published one does."""

    def methods(file: FileDescriptor) -> list[tuple[object, ...]]:
        return [
            (m.name, m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming)
            for m in file.services_by_name["GRPCInferenceService"].methods
        ]

    assert methods(grpc_service_pb2.DESCRIPTOR) == methods(published_service.DESCRIPTOR)


def test_the_health_service_is_that_of_grpc() -> None:
    """`grpc.health.v1.Health` has Check, Watch and four states."""
    service = health_pb2.DESCRIPTOR.services_by_name["Health"]
    assert [(m.name, m.server_streaming) for m in service.methods] == [("Check", False), ("Watch", True)]
    assert health_pb2.HealthCheckResponse(status="SERVING").SerializeToString() == b"\x08\x01"


def test_what_is_not_triton_s_has_numbers_far_beyond_its_own() -> None:
    """One field of ours, which a message of Triton's never fills and keeps unread."""
    messages = all_messages(model_config_pb2.DESCRIPTOR.message_types_by_name).values()
    own = [field.full_name for message in messages for field in message.fields if is_own(field)]
    assert own == ["inference.ModelEnsembling.Step.when"]


def random_value(field: FieldDescriptor, dice: random.Random) -> object:
    """Return a random value for a scalar field."""
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return dice.random() < 0.5
        case FieldDescriptor.TYPE_STRING:
            return "".join(dice.choices("aé漢 _-1", k=dice.randrange(6)))
        case FieldDescriptor.TYPE_BYTES:
            return dice.randbytes(dice.randrange(20))
        case FieldDescriptor.TYPE_ENUM:
            return dice.choice(field.enum_type.values).number  # type: ignore[union-attr]
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return dice.choice([0.0, -1.5, 2.0**20, float("inf")])
        case kind:
            return dice.choice([*RANGES[kind], dice.randint(0, 1000)])


def fill(message: Message, dice: random.Random, depth: int = 5) -> None:
    """Set random fields of a message to random values."""
    for field in cast("Descriptor", message.DESCRIPTOR).fields:
        if dice.random() < 0.3 or is_own(field):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field.message_type, dice, depth)
        elif field.message_type is not None and depth == 0:
            continue
        elif field.message_type is not None:
            targets = (
                [getattr(message, field.name).add() for _ in range(dice.randrange(3))]
                if field.is_repeated
                else [getattr(message, field.name)]
            )
            for target in targets:
                target.SetInParent()
                fill(target, dice, depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(random_value(field, dice) for _ in range(dice.randrange(4)))
        else:
            setattr(message, field.name, random_value(field, dice))


def fill_map(container: object, entry: Descriptor, dice: random.Random, depth: int) -> None:
    """Put up to two random entries into a map field."""
    key, value = entry.fields
    for _ in range(dice.randrange(3)):
        name = random_value(key, dice)
        if value.message_type is None:
            container[name] = random_value(value, dice)  # type: ignore[index]
        else:
            fill(container[name], dice, depth - 1)  # type: ignore[index]


MESSAGES = [
    pytest.param(getattr(ours, name), getattr(published, name), id=name)
    for ours, published in (
        (grpc_service_pb2, published_service),
        (model_config_pb2, published_model_config),
    )
    for name in ours.DESCRIPTOR.message_types_by_name
]


@pytest.mark.parametrize(("ours", "published"), MESSAGES)
def test_serialised_messages_are_interchangeable_with_the_published_ones(
    ours: type[Message], published: type[Message]
) -> None:
    """Random messages of ours are read by Triton's classes, written by them, and read back as they were."""
    dice = random.Random(ours.__name__)
    for _ in range(20):
        sent = ours()
        fill(sent, dice)
        theirs = published.FromString(sent.SerializeToString(deterministic=True))
        assert len(UnknownFieldSet(theirs)) == 0
        assert str(theirs) == str(sent)
        assert theirs.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)
        assert ours.FromString(theirs.SerializeToString()) == sent


@pytest.mark.parametrize(
    "imports",
    [
        "import tritonclient.grpc; import deuteron.proto.schema.grpc_service_pb2",
        "import deuteron.proto.schema.grpc_service_pb2; import tritonclient.grpc",
    ],
)
def test_the_schema_and_the_clients_import_in_either_order(imports: str) -> None:
    """Two registrations of one name do not meet, whoever comes first."""
    subprocess.run([sys.executable, "-c", imports], check=True)


def test_the_schema_leaves_the_default_pool_alone() -> None:
    """A program that registers the same names in protobuf's default pool still may."""
    program = (
        "import deuteron.proto.schema.grpc_service_pb2, deuteron.proto.schema.health_pb2\n"
        "from google.protobuf.descriptor_pool import Default\n"
        "for name in 'grpc_service.proto', 'model_config.proto', 'health.proto':\n"
        "    try: Default().FindFileByName(name)\n"
        "    except KeyError: continue\n"
        "    raise SystemExit(name)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_regenerating_the_modules_changes_nothing() -> None:
    """The committed modules are what protoc makes of the committed `.proto` files."""
    script = ROOT / "tools" / "generate_schema.py"
    done = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
