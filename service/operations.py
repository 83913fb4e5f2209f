"""What can be asked of the server over HTTP, whatever the path looks like."""

from enum import Enum


class Operation(Enum):
    """What can be asked of the server; the value is what it is called in an error."""

    SERVER_LIVE = "server live"
    SERVER_READY = "server ready"
    SERVER_METADATA = "server metadata"
    DESCRIPTION = "description of the protocol"
    MODEL_READY = "model ready"
    MODEL_METADATA = "model metadata"
    MODEL_CONFIG = "model configuration"
    STATISTICS = "statistics"
    INFER = "inference"
    GENERATE = "generate"
    GENERATE_STREAM = "generate stream"
    REPOSITORY_INDEX = "repository index"
    MODEL_LOAD = "model load"
    MODEL_UNLOAD = "model unload"
    TRACE = "trace settings"
    LOGGING = "log settings"
    SHARED_MEMORY_STATUS = "shared memory status"
    SHARED_MEMORY_CHANGE = "shared memory registration"

    # Operations are looked up for every request; Enum's own hash is Python code.
    __hash__ = object.__hash__
