"""Responses in the order of their requests, also when a later batch ends first.

A model with `preserve_ordering` promises this. Each job takes a place in line when it is dispatched; the
responses of those behind wait until everyone before them has had the final one.
"""

from collections import deque

from ..proto.message import Response
from .reply import Reply


class _Place:
    """A place in line: a reply that lets responses through once it stands at the front."""

    __slots__ = ("_held", "_line", "_reply", "ended")

    def __init__(self, line: "Line", reply: Reply) -> None:
        self._line = line
        self._reply = reply
        self._held: list[Response] = []
        self.ended = False

    def send(self, response: Response) -> None:
        """Take a response, to pass on now or when the turn comes."""
        self.ended = self.ended or response.final
        if self._line.is_front(self):
            self._reply.send(response)
            self._line.advance()
        else:
            self._held.append(response)

    def release(self) -> None:
        """Pass on what was held while others were before."""
        for response in self._held:
            self._reply.send(response)
        self._held.clear()


class Line:
    """The jobs of one model that have been dispatched and not yet fully answered, in their order."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    def reserve(self, reply: Reply) -> Reply:
        """Return the reply to use instead: the last place in line."""
        place = _Place(self, reply)
        self._places.append(place)
        return place

    def is_front(self, place: _Place) -> bool:
        """Whether nobody is before this place."""
        return self._places[0] is place if self._places else False

    def advance(self) -> None:
        """Let everyone go who stands at the front and has ended."""
        while self._places and self._places[0].ended:
            self._places.popleft()
            if self._places:
                self._places[0].release()
