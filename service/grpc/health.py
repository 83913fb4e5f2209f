"""gRPC's own health protocol: whether the server is ready, asked once or watched.

The protocol lets a client ask about one service of a server; here all are up or none is, so whatever service
is asked about, the answer is that of the server.
"""

import asyncio
from typing import Final

from ...actors.repository import Repository
from ...proto.errors import internal
from ...proto.schema import health_pb2
from .. import information
from .call import Call
from .rpc import read_message
from .sessions import Sessions, write

LOOK_EVERY_S: Final = 1.0
"""How late who watches may be told of a change: readiness is worked out only when it is asked for."""


class Health:
    """The handlers of `grpc.health.v1.Health`."""

    def __init__(self, repository: Repository, sessions: Sessions) -> None:
        self._repository = repository
        self._sessions = sessions

    async def check(self, _asked: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """Tell whether requests are welcome."""
        information.check_not_exiting(self._repository)
        return self._told()

    async def watch(self, call: Call) -> None:
        """Tell the same now and whenever it changes, until the client leaves or the server ends."""
        await self._sessions.hold(self._tell_changes(call))

    async def _tell_changes(self, call: Call) -> None:
        async for body in call.messages():
            read_message(health_pb2.HealthCheckRequest, body)
            break
        else:
            raise internal("No message returned for unary request")
        last = None
        while True:
            told = self._told()
            if told != last:
                last = told
                await write(call, told.SerializeToString())
            await asyncio.sleep(LOOK_EVERY_S)

    def _told(self) -> health_pb2.HealthCheckResponse:
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(
            status=status.SERVING if self._repository.ready else status.NOT_SERVING
        )
