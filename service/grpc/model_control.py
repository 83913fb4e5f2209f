"""Loading and unloading over gRPC."""

from ...proto.errors import Fault, InferError, invalid
from ...proto.schema import grpc_service_pb2 as pb
from .. import model_control
from ..doorway import Doorway


class ModelControl:
    """The handlers that change what is loaded."""

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway

    async def load(self, asked: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it anew."""
        _check_repository(asked.repository_name)
        parameters: dict[str, str | bytes] = {}
        for name, value in asked.parameters.items():
            if not model_control.is_load_parameter(name):
                raise invalid(f"unrecognized load parameter '{name}'.")
            expected = "string_param" if name == model_control.CONFIG_PARAMETER else "bytes_param"
            if value.WhichOneof("parameter_choice") != expected:
                raise invalid(f"invalid value type for load parameter '{name}', expected {expected}.")
            parameters[name] = getattr(value, expected)
        await model_control.load(self._doorway, asked.model_name, parameters)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, asked: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Begin to unload a model."""
        _check_repository(asked.repository_name)
        dependents = asked.parameters.get("unload_dependents")
        if dependents is not None and dependents.WhichOneof("parameter_choice") != "bool_param":
            raise invalid("invalid value type for 'unload_dependents' parameter, expected bool_param.")
        await model_control.unload(
            self._doorway, asked.model_name, dependents=dependents is not None and dependents.bool_param
        )
        return pb.RepositoryModelUnloadResponse()


def _check_repository(name: str) -> None:
    if name:
        raise InferError(Fault.UNSUPPORTED, "'repository_name' specification is not supported")
