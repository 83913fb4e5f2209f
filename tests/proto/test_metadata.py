from collections.abc import Callable

from google.protobuf.json_format import ParseDict

from deuteron.proto.config import ModelConfig
from deuteron.proto.metadata import model_metadata, server_metadata
from deuteron.proto.schema import grpc_service_pb2 as pb

IDENTITY = """
    name: "m" {}
    input {{ name: "A" data_type: TYPE_STRING dims: [2, -1] reshape {{ shape: [-1, 2] }} }}
    output {{ name: "OUT" data_type: TYPE_BF16 dims: 3 }}
"""


def test_a_server_lists_its_extensions() -> None:
    members = server_metadata("triton", "0.1")
    assert list(members) == ["name", "version", "extensions"]
    assert members["extensions"][:2] == ["classification", "sequence"]
    assert pb.ServerMetadataResponse(**members).extensions == members["extensions"]


def test_a_model_shows_the_shapes_that_clients_see(configured: Callable[[str], ModelConfig]) -> None:
    config = configured(IDENTITY.format('max_batch_size: 1 platform: "p" backend: "b"'))
    members = model_metadata(config, (1, 12))
    assert members == {
        "name": "m",
        "versions": ["1", "12"],
        "platform": "p",
        "inputs": [{"name": "A", "datatype": "BYTES", "shape": [-1, 2, -1]}],
        "outputs": [{"name": "OUT", "datatype": "BF16", "shape": [-1, 3]}],
    }
    assert list(members) == [field.name for field in pb.ModelMetadataResponse.DESCRIPTOR.fields]
    assert ParseDict(members, pb.ModelMetadataResponse()).inputs[0].shape == [-1, 2, -1]


def test_a_model_without_platform_shows_its_backend(configured: Callable[[str], ModelConfig]) -> None:
    members = model_metadata(configured(IDENTITY.format('backend: "python"')), ())
    assert members["platform"] == "python"
    assert members["inputs"][0]["shape"] == [2, -1]
