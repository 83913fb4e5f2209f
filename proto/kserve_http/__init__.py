"""The KServe v2 protocol on HTTP, with Triton's extensions: bodies in, requests out, and back."""

from .errors import HTTP_STATUS, encode_error
from .header_length import HEADER, parse_json_length
from .request import DEFAULT_MAX_INPUT_SIZE, decode_infer
from .response import Answer, encode_infer

__all__ = [
    "DEFAULT_MAX_INPUT_SIZE",
    "HEADER",
    "HTTP_STATUS",
    "Answer",
    "decode_infer",
    "encode_error",
    "encode_infer",
    "parse_json_length",
]
