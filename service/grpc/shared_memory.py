"""Registering, forgetting and listing regions of shared memory over gRPC."""

from ...proto.schema import grpc_service_pb2 as pb
from ..shared_memory import SharedMemory


class RegionControl:
    """The handlers of the regions that clients share with the server."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory

    async def system_status(
        self, asked: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """List regions, all or the one that is named."""
        told = pb.SystemSharedMemoryStatusResponse()
        for each in self._memory.status(asked.name):
            region = told.regions[each.name]
            region.name = each.name
            region.key = each.key
            region.offset = each.offset
            region.byte_size = each.byte_size
        return told

    async def register_system(
        self, asked: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Register a region."""
        self._memory.register(asked.name, asked.key, asked.offset, asked.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister_system(
        self, asked: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget a region, all of them where none is named."""
        self._memory.unregister(asked.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(self, asked: pb.CudaSharedMemoryStatusRequest) -> pb.CudaSharedMemoryStatusResponse:
        """List regions on GPUs: there are none."""
        self._memory.check_cuda_status(asked.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def register_cuda(
        self, asked: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Refuse a region on a GPU."""
        self._memory.register_cuda(asked.name, asked.raw_handle)
        return pb.CudaSharedMemoryRegisterResponse()

    async def unregister_cuda(
        self, _asked: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Forget regions on GPUs, of which there are none."""
        self._memory.unregister_cuda()
        return pb.CudaSharedMemoryUnregisterResponse()
