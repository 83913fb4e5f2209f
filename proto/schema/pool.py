"""The descriptor pool that holds deuteron's messages.

Triton's own Python client registers the very same names (`inference.ModelInferRequest` in
`grpc_service.proto`) in protobuf's default pool, and a name may be registered only once. Programs that use
both, as every client of an embedded server does, would fail on import; so deuteron's messages live in a pool
of their own. What they look like on the wire is the same.
"""

from typing import Final

from google.protobuf.descriptor_pool import DescriptorPool

__all__ = ["POOL"]

POOL: Final = DescriptorPool()
