"""What comes first when a batch has run: an idle engine gets the next before callers hear of the last."""

from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.proto.message import Response

from .conftest import IDENTITY, Ask, Open, Write

BATCHING = f"""
{IDENTITY} dynamic_batching {{ }}
parameters {{ key: "execute_delay_ms" value {{ string_value: "20" }} }}
"""


class Onlooker:
    """A caller who looks, when it is answered, how many others still wait."""

    def __init__(self, repository: Repository) -> None:
        self._model = repository.find("identity")
        self.saw: list[tuple[int, int]] = []

    def send(self, response: Response) -> None:
        """Note who waits, and how many were counted as answered."""
        statistics = self._model.statistics
        self.saw.append((statistics.pending, statistics.success.count))


async def test_the_next_batch_is_on_its_way_when_callers_hear_of_the_last(
    write_model: Write, open_repository: Open, ask: Ask
) -> None:
    write_model("identity", BATCHING)
    repository = await open_repository()
    model = repository.find("identity")
    onlooker, last = Onlooker(repository), OneReply()
    model.infer(ask(8), onlooker)
    model.infer(ask(8), last)
    await last
    assert onlooker.saw == [(0, 1)]
