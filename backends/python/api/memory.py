"""`PreferredMemory`: where model code would like the outputs of a model it asks to lie."""

from enum import IntEnum
from typing import Final

from .names import EXTENSION_MODULE


class MemoryType(IntEnum):
    """The kinds of memory that a model may prefer."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


TRITONSERVER_MEMORY_GPU: Final = MemoryType.TRITONSERVER_MEMORY_GPU
TRITONSERVER_MEMORY_CPU: Final = MemoryType.TRITONSERVER_MEMORY_CPU


class PreferredMemory:
    """A kind of memory, and the device it belongs to."""

    __module__ = EXTENSION_MODULE
    __slots__ = ("device_id", "memory_type")

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        if not isinstance(preferred_memory_type, MemoryType):
            raise TypeError("PreferredMemory: expected TRITONSERVER_MEMORY_CPU or TRITONSERVER_MEMORY_GPU")
        self.memory_type = preferred_memory_type
        self.device_id = preferred_device_id
