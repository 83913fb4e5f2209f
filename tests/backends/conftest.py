"""What the tests of engines have in common: they do with a model what an instance would do."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf import text_format

from deuteron.backends.api import Backend, Batch, Engine, ModelFiles, Seat
from deuteron.backends.device import HOST, HostStream
from deuteron.proto.config import ModelConfig
from deuteron.proto.message import Request, Response
from deuteron.proto.schema import model_config_pb2
from deuteron.proto.tensor import Array, Tensor


class Rig:
    """Holds one model directory, and runs requests on the engines of its model."""

    def __init__(self, directory: Path) -> None:
        self.files = ModelFiles(directory, 1)
        self.files.version_directory.mkdir(parents=True)

    @staticmethod
    def message(text: str) -> model_config_pb2.ModelConfig:
        """Read a configuration as people write it."""
        return text_format.Parse(f"name: 'model'\n{text}", model_config_pb2.ModelConfig())

    @staticmethod
    def parameters(**values: str) -> str:
        """Write model parameters as a configuration has them."""
        entries = (
            f"parameters {{ key: '{key}' value {{ string_value: '{each}' }} }}"
            for key, each in values.items()
        )
        return "\n".join(entries)

    def config(self, text: str) -> ModelConfig:
        """Read a configuration, frozen."""
        return ModelConfig.from_message(self.message(text))

    def engine(self, backend: Backend, text: str, index: int = 0) -> Engine:
        """Load a model and make the engine of one instance."""
        seat = Seat(f"model_{index}", index, HOST, HostStream())
        return backend.load(self.config(text), self.files, HOST).engine(seat)

    @staticmethod
    def request(outputs: Sequence[str] = (), /, **inputs: Array | Tensor) -> Request:
        """Ask with arrays, each a batch of as many rows as its first dimension says."""
        tensors = {
            name: value if isinstance(value, Tensor) else Tensor.from_numpy(value)
            for name, value in inputs.items()
        }
        rows = max((tensor.shape[0] for tensor in tensors.values() if tensor.shape), default=1)
        return Request("model", inputs=tensors, requested_outputs=tuple(outputs), batch_size=max(1, rows))

    @staticmethod
    def batch(*requests: Request) -> Batch:
        """Put requests side by side."""
        return Batch(requests, sum(request.batch_size for request in requests))

    @classmethod
    def run(cls, engine: Engine, *requests: Request) -> list[Response]:
        """Execute requests as one batch; return their responses, in order."""
        responses: dict[int, Response] = {}

        def emit(row: int, response: Response) -> None:
            assert row not in responses
            responses[row] = response

        engine.execute(cls.batch(*requests), emit)
        return [responses[row] for row in range(len(requests))]

    @classmethod
    def answer(
        cls, engine: Engine, outputs: Sequence[str] = (), /, **inputs: Array | Tensor
    ) -> dict[str, Array]:
        """Execute one request alone; return the arrays it is answered with."""
        (response,) = cls.run(engine, cls.request(outputs, **inputs))
        return {name: tensor.numpy() for name, tensor in response.outputs.items()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Return a rig with an empty version directory."""
    return Rig(tmp_path / "repository" / "model")
