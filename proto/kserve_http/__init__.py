"""The KServe v2 protocol on HTTP, with Triton's extensions: bodies in, requests out, and back."""

from .decoder import Decoder
from .document import DEFAULT_MAX_INPUT_SIZE
from .errors import HTTP_STATUS, encode_error
from .generate import ONE_RESPONSE_EXPECTED, decode_generate, encode_generate, event
from .header_length import HEADER, parse_json_length
from .request import decode_infer
from .response import Answer, encode_infer

__all__ = [
    "DEFAULT_MAX_INPUT_SIZE",
    "HEADER",
    "HTTP_STATUS",
    "ONE_RESPONSE_EXPECTED",
    "Answer",
    "Decoder",
    "decode_generate",
    "decode_infer",
    "encode_error",
    "encode_generate",
    "encode_infer",
    "event",
    "parse_json_length",
]
