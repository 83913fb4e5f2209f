"""Verification: a version that nobody finds yet is asked its golden cases, and has to know the answers.

The requests go the way of all requests, by admission, schedule and instance, so what they vouch for is what
clients will meet. They are counted in the statistics of the version as any other.
"""

from collections.abc import Iterable, Mapping

from ..proto.errors import InferError, internal
from ..proto.golden import GoldenCase, difference
from ..proto.kserve_http import decode_infer
from ..proto.tensor import Tensor
from .reply import StreamReply
from .servable import Servable


async def verify(version: Servable, cases: Iterable[GoldenCase]) -> None:
    """Ask a version that serves its cases, one after the other; raises InferError for the first it fails."""
    for case in cases:
        try:
            told = difference(case, await _answers(version, case))
        except InferError as error:
            told = error.message
        if told:
            raise internal(f"self-test '{case.name}' failed: {told}")


async def _answers(version: Servable, case: GoldenCase) -> list[Mapping[str, Tensor]]:
    """Return the outputs of all responses to the request of a case; raises InferError for an error."""
    request, _ = decode_infer(case.request, None, version)
    answers: list[Mapping[str, Tensor]] = []
    reply = StreamReply()
    version.infer(request, reply)
    try:
        async for response in reply:
            if response.error is not None:
                raise response.error
            if not response.silent:
                answers.append(response.outputs)
    finally:
        if not reply.is_complete:
            version.cancel(request)
    return answers
