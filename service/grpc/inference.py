"""ModelInfer: one request, one response."""

from google.protobuf.message import Message

from ...actors.clock import now
from ...actors.servable import ask
from ...proto import kserve_grpc
from ...proto.errors import Fault, InferError
from ...proto.model_version import parse_model_version
from ...proto.schema import grpc_service_pb2 as pb
from ..doorway import Doorway
from ..observer import GRPC
from .forwarding import Forward
from .rpc import Context


class Inference:
    """The handler that asks models."""

    def __init__(self, doorway: Doorway, forward: Forward | None = None) -> None:
        self._repository = doorway.repository
        self._observer = doorway.observer
        self._memory = doorway.shared_memory
        self._forward = forward

    async def infer(self, message: pb.ModelInferRequest, context: Context) -> Message:
        """Answer one inference request; raises InferError for whatever keeps it from being served."""
        received = now() if self._observer.active else None
        if self._forward is not None:
            self._forward(message, context)
        model = self._repository.find(message.model_name, parse_model_version(message.model_version))
        if model.config.decoupled:
            raise InferError(
                Fault.UNSUPPORTED,
                "ModelInfer RPC doesn't support models with decoupled transaction policy",
            )
        with self._memory.lend() as regions:
            asked, forms = kserve_grpc.decode_infer(message, model, regions)
            observation = None
            if received is not None:
                metadata = context.invocation_metadata() or ()
                observation = self._observer.begin(GRPC, received, asked, model, metadata)
            if observation is None:
                return kserve_grpc.encode_infer(model, asked, await ask(model, asked), forms)
            try:
                response = await ask(observation, asked)
                began = now()
                answer = kserve_grpc.encode_infer(model, asked, response, forms)
                observation.sent(began)
            except BaseException as error:
                observation.close(error)
                raise
            observation.close()
            return answer
