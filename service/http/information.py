"""What HTTP tells about the server and its models."""

from http import HTTPStatus

import orjson
from aiohttp.web import BaseRequest, StreamResponse

from ...proto.errors import invalid
from ...proto.kserve_http.document import NestedTooDeepError
from .. import information
from ..doorway import Doorway
from .bodies import read_json
from .responses import empty, json_body
from .routes import Match


class Information:
    """The handlers that answer without asking a model."""

    def __init__(self, doorway: Doorway, max_input_size: int) -> None:
        self._repository = doorway.repository
        self._max_input_size = max_input_size
        self._server_metadata = orjson.dumps(information.server_metadata(doorway))

    async def server_live(self, _request: BaseRequest, _match: Match) -> StreamResponse:
        """Tell whether the server has started."""
        information.check_not_exiting(self._repository)
        return empty(HTTPStatus.OK if self._repository.live else HTTPStatus.BAD_REQUEST)

    async def server_ready(self, _request: BaseRequest, _match: Match) -> StreamResponse:
        """Tell whether requests are welcome."""
        information.check_not_exiting(self._repository)
        return empty(HTTPStatus.OK if self._repository.ready else HTTPStatus.BAD_REQUEST)

    async def model_ready(self, _request: BaseRequest, match: Match) -> StreamResponse:
        """Tell whether a model takes requests; one that is not there is an error."""
        information.check_serving(self._repository)
        model = self._repository.find(match.model, match.version)
        return empty(HTTPStatus.OK if await model.is_ready() else HTTPStatus.BAD_REQUEST)

    async def server_metadata(self, _request: BaseRequest, _match: Match) -> StreamResponse:
        """Tell name, version and extensions."""
        return json_body(self._server_metadata)

    async def model_metadata(self, _request: BaseRequest, match: Match) -> StreamResponse:
        """Tell what a model takes and gives."""
        members = information.model_metadata(self._repository, match.model, match.version)
        return json_body(orjson.dumps(members))

    async def model_config(self, _request: BaseRequest, match: Match) -> StreamResponse:
        """Tell a model's whole configuration."""
        members = information.model_config(self._repository, match.model, match.version)
        return json_body(orjson.dumps(members))

    async def statistics(self, _request: BaseRequest, match: Match) -> StreamResponse:
        """Tell what models have done so far."""
        members = information.statistics(self._repository, match.model, match.version)
        return json_body(orjson.dumps({"model_stats": members}))

    async def repository_index(self, request: BaseRequest, _match: Match) -> StreamResponse:
        """List the models there are; a repository named in the path makes no difference."""
        try:
            members = await read_json(request, self._max_input_size)
            ready = members.get("ready", False)
        except NestedTooDeepError:
            ready = None  # nothing here is made of arrays
        if not isinstance(ready, bool):
            raise invalid("Invalid value for 'ready': expected a boolean")
        return json_body(orjson.dumps(information.repository_index(self._repository, ready_only=ready)))
