"""The KServe v2 protocol on gRPC, with Triton's extensions: messages in, requests out, and back."""

from .request import decode_infer, read_infer
from .response import MAX_MESSAGE_SIZE, Answer, encode_infer

__all__ = ["MAX_MESSAGE_SIZE", "Answer", "decode_infer", "encode_infer", "read_infer"]
