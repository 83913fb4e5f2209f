"""What instances run before they are ready: warm-up samples, as far as they can be judged without files."""

from collections.abc import Iterator

from ..datatypes import Datatype
from ..errors import request_prefix
from ..schema import model_config_pb2 as pb
from .complaint import Complaint, entry
from .shapes import ANY, check_byte_size


def check_warmup(config: pb.ModelConfig) -> Iterator[Complaint]:
    """Check that every sample which will run says all about its inputs."""
    for index, sample in enumerate(config.model_warmup):
        if sample.batch_size == 0:
            continue
        for name in sorted(sample.inputs):
            path = f"model_warmup{entry(index)}.inputs{entry(name)}"
            given = sample.inputs[name]
            if ANY in given.dims or given.data_type == pb.TYPE_INVALID:
                message = (
                    f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
                )
                yield Complaint(message, path)
            else:
                yield from check_byte_size(Datatype(given.data_type), given.dims, name, f"{path}.dims")
            if given.WhichOneof("input_data_type") is None:
                message = (
                    f"{request_prefix('')}warmup setting expects input '{name}' to have input_data_type set"
                )
                yield Complaint(message, path)
