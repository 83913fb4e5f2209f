"""Metadata that goes to the model: it becomes parameters of the message before that is looked at."""

from collections.abc import Callable

from ...proto.schema import grpc_service_pb2 as pb
from ..forwarding import HeaderForwarding
from .call import Metadata

Forward = Callable[[pb.ModelInferRequest, Metadata], None]


def forwarding_to_message(pattern: str) -> Forward | None:
    """Return what writes the metadata that a pattern chooses into a request; None for an empty pattern."""
    if not pattern:
        return None
    forwarding = HeaderForwarding(pattern)

    def forward(message: pb.ModelInferRequest, metadata: Metadata) -> None:
        for key, value in forwarding.select(metadata).items():
            message.parameters[key].string_param = value

    return forward
