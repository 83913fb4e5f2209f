"""What a function is asked: the inputs of one request by name, and what else came with it."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Self

from ...proto.message import Correlation, Parameters
from ...proto.message import Request as WireRequest
from ...proto.tensor import Array


class Request(MutableMapping[str, Array]):
    """One request: a mapping from the names of its inputs to their arrays.

    Inputs have their batch dimension where the model batches. What a decorator puts into it is seen by the
    functions below it, and by nobody else.
    """

    __slots__ = ("_asked", "data", "parameters")

    def __init__(self, data: Mapping[str, Array], parameters: Parameters | None = None) -> None:
        """Make a request as the server does, to try a function out."""
        self.data = dict(data)
        self.parameters: Parameters = parameters or {}
        """The parameters of the request, and the headers that the server forwards."""
        self._asked: WireRequest | None = None

    @classmethod
    def arrived(cls, asked: WireRequest) -> Self:
        """Return the function's view of a request that came to its model."""
        request = cls({name: tensor.numpy() for name, tensor in asked.inputs.items()}, asked.parameters)
        request._asked = asked
        return request

    @property
    def id(self) -> str:
        """The name its client gave it, perhaps none."""
        return self._asked.id if self._asked is not None else ""

    @property
    def correlation(self) -> Correlation | None:
        """The sequence it belongs to, if to any."""
        return self._asked.correlation if self._asked is not None else None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more; may change while the function runs."""
        return self._asked is not None and self._asked.cancelled

    def with_inputs(self, data: Mapping[str, Array]) -> "Request":
        """Return the same request with other inputs."""
        request = Request(data, self.parameters)
        request._asked = self._asked
        return request

    def __getitem__(self, name: str) -> Array:
        return self.data[name]

    def __setitem__(self, name: str, value: Array) -> None:
        self.data[name] = value

    def __delitem__(self, name: str) -> None:
        del self.data[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Request({self.data!r}, {dict(self.parameters)!r})"
