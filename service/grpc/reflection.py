"""Server reflection: tools ask which services there are and what their messages look like.

The descriptors come from the pool that holds deuteron's messages. They are in no other, which is why this is
not left to the package that gRPC has for it: that one knows protobuf's default pool, where Triton's own
client registers the same names.
"""

from collections.abc import Sequence
from typing import Final

from google.protobuf.descriptor import FileDescriptor

from ...proto.schema import reflection_pb2 as pb
from ...proto.schema.pool import POOL
from .call import Call
from .rpc import read_message
from .sessions import Sessions, write
from .status import Status

SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The service under its name and under the one it had before; both speak the same messages."""


class Reflection:
    """The handler of `ServerReflectionInfo`."""

    def __init__(self, services: Sequence[str], sessions: Sessions) -> None:
        self._services = services
        self._sessions = sessions

    async def info(self, call: Call) -> None:
        """Answer every question of a call."""
        await self._sessions.hold(self._answer_all(call))

    async def _answer_all(self, call: Call) -> None:
        async for body in call.messages():
            asked = read_message(pb.ServerReflectionRequest, body)
            await write(call, self._answer(asked).SerializeToString())

    def _answer(self, asked: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        answer = pb.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
        try:
            match asked.WhichOneof("message_request"):
                case "list_services":
                    services = [pb.ServiceResponse(name=name) for name in self._services]
                    answer.list_services_response.service.extend(services)
                case "file_by_filename":
                    _tell_files(answer, POOL.FindFileByName(asked.file_by_filename))
                case "file_containing_symbol":
                    _tell_files(answer, _file_with(asked.file_containing_symbol))
                case "all_extension_numbers_of_type":
                    message = POOL.FindMessageTypeByName(asked.all_extension_numbers_of_type)
                    answer.all_extension_numbers_response.base_type_name = message.full_name
                case _:  # no message here has extensions
                    raise KeyError  # noqa: TRY301 - told as whatever else is not found
        except KeyError:
            answer.error_response.error_code = Status.NOT_FOUND
            answer.error_response.error_message = "not found"
        return answer


def _file_with(symbol: str) -> FileDescriptor:
    """Return the file that says what a name means; raises KeyError where none does."""
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        # The pool does not look for methods.
        service, _, method = symbol.rpartition(".")
        return POOL.FindServiceByName(service).methods_by_name[method].containing_service.file


def _tell_files(answer: pb.ServerReflectionResponse, file: FileDescriptor) -> None:
    """Write a file into an answer, and whatever it imports."""
    files = {file.name: file}
    waiting = [file]
    while waiting:
        for needed in waiting.pop().dependencies:
            if needed.name not in files:
                files[needed.name] = needed
                waiting.append(needed)
    answer.file_descriptor_response.file_descriptor_proto.extend(
        each.serialized_pb for each in files.values()
    )
