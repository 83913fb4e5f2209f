"""What came of all requests: how often each status, and whatever no request may bring about."""

from collections import Counter
from typing import Final

UNEXPECTED: Final = b"unexpected error of the server"
"""What a client is told where the server met an error that it was not made for."""
SHOWN: Final = 20


class Tally:
    """Counts, and keeps the first requests that should not have been possible."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.faults: list[str] = []

    def count(self, status: str, answer: bytes, request: bytes) -> None:
        """Count a request that was answered, or was not."""
        self.statuses[status] += 1
        if UNEXPECTED in answer and len(self.faults) < SHOWN:
            self.faults.append(f"{status} {answer[:200]!r} after {request[:2000]!r}")

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.statuses.total()

    def report(self) -> str:
        """Return a table of statuses, and the faults."""
        lines = [f"{count:10,}  {status}" for status, count in sorted(self.statuses.items())]
        return "\n".join((*lines, *self.faults))
