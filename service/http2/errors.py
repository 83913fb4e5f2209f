"""What a client does wrong, and how far it reaches: one stream, or the connection (RFC 9113, section 5.4)."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """The error codes of RFC 9113, section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The client broke the connection: nothing that it sends can be trusted any more."""

    def __init__(self, code: ErrorCode, told: str) -> None:
        super().__init__(told)
        self.code = code


class StreamFault(Exception):
    """The client broke one stream; the others go on."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


def protocol_error(told: str) -> ConnectionFault:
    """Return the fault of a client that does not speak HTTP/2 as it should."""
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, told)


def wrong_size(frame: str) -> ConnectionFault:
    """Return the fault of a frame whose length its type does not allow."""
    return ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{frame} of a wrong length")


def calm_down(told: str) -> ConnectionFault:
    """Return the fault of a client that makes more work than it asks for."""
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, told)
