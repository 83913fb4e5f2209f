"""ModelInfer: one request, one response."""

import asyncio

from google.protobuf.message import Message

from ...actors.reply import OneReply
from ...proto import kserve_grpc
from ...proto.errors import Fault, InferError
from ...proto.model_version import parse_model_version
from ...proto.schema import grpc_service_pb2 as pb
from ..doorway import Doorway


class Inference:
    """The handler that asks models."""

    def __init__(self, doorway: Doorway) -> None:
        self._repository = doorway.repository
        self._regions = doorway.shared_memory

    async def infer(self, message: pb.ModelInferRequest) -> Message:
        """Answer one inference request; raises InferError for whatever keeps it from being served."""
        model = self._repository.find(message.model_name, parse_model_version(message.model_version))
        if model.config.decoupled:
            raise InferError(
                Fault.UNSUPPORTED,
                "ModelInfer RPC doesn't support models with decoupled transaction policy",
            )
        asked, forms = kserve_grpc.decode_infer(message, model, self._regions)
        reply = OneReply()
        model.infer(asked, reply)
        try:
            response = await reply
        except asyncio.CancelledError:
            model.cancel(asked)
            raise
        return kserve_grpc.encode_infer(model, asked, response, forms)
