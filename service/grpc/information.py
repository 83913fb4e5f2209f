"""What gRPC tells about the server and its models."""

from google.protobuf.json_format import ParseDict

from ...proto.errors import InferError
from ...proto.model_version import parse_model_version
from ...proto.schema import grpc_service_pb2 as pb
from .. import information
from ..doorway import Doorway


class Information:
    """The handlers that answer without asking a model."""

    def __init__(self, doorway: Doorway) -> None:
        self._repository = doorway.repository
        self._server_metadata = pb.ServerMetadataResponse(**information.server_metadata(doorway))

    async def server_live(self, _asked: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Tell whether the server has started."""
        information.check_not_exiting(self._repository)
        return pb.ServerLiveResponse(live=self._repository.live)

    async def server_ready(self, _asked: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Tell whether requests are welcome."""
        information.check_not_exiting(self._repository)
        return pb.ServerReadyResponse(ready=self._repository.ready)

    async def model_ready(self, asked: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Tell whether a model takes requests; one that is not there does not.

        Triton called that an error in one release; its clients, and its own tests, expect an answer.
        """
        information.check_serving(self._repository)
        version = parse_model_version(asked.version)
        try:
            model = self._repository.find(asked.name, version)
        except InferError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=await model.is_ready())

    async def server_metadata(self, _asked: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Tell name, version and extensions."""
        return self._server_metadata

    async def model_metadata(self, asked: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Tell what a model takes and gives."""
        version = parse_model_version(asked.version)
        members = information.model_metadata(self._repository, asked.name, version)
        return ParseDict(members, pb.ModelMetadataResponse())

    async def model_config(self, asked: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """Tell a model's whole configuration."""
        servable = self._repository.find(asked.name, parse_model_version(asked.version))
        return pb.ModelConfigResponse(config=servable.config.message)

    async def statistics(self, asked: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Tell what models have done so far."""
        version = parse_model_version(asked.version)
        members = information.statistics(self._repository, asked.name, version)
        return ParseDict({"model_stats": members}, pb.ModelStatisticsResponse())

    async def repository_index(self, asked: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List the models there are; a repository that is named makes no difference."""
        members = information.repository_index(self._repository, ready_only=asked.ready)
        return ParseDict({"models": members}, pb.RepositoryIndexResponse())
