"""Python models that say themselves whether they are ready."""

import asyncio

import pytest

from deuteron.actors import readiness

from .asking import HEAD, TELLING_CONFIG, House

READINESS = """
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for request in requests]

    {}
"""

ANSWERS = {
    "says nothing": ("pass", True),
    "yes": ("def is_ready(self): return True", True),
    "no": ("def is_ready(self): return False", False),
    "a coroutine": ("async def is_ready(self): return False", False),
    "neither": ("def is_ready(self): return 1", False),
    "an exception": ("def is_ready(self): raise SystemExit", False),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_model_may_say_whether_it_is_ready(house: House, answer: str) -> None:
    statement, is_ready = ANSWERS[answer]
    house.write("model", HEAD + READINESS.format(statement), TELLING_CONFIG)
    await house.open()
    assert await house.repository.find("model").is_ready() is is_ready
    assert await house.repository.find("twice").is_ready()


async def test_a_model_that_does_not_answer_is_not_ready(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks meanwhile waits for the same answer; nobody's thread but one is held."""
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.05)
    waits = "def is_ready(self): return threading.Event().wait(0.3) or True"
    house.write("model", HEAD + READINESS.format(waits), TELLING_CONFIG)
    await house.open()
    model = house.repository.find("model")
    assert await asyncio.gather(*(model.is_ready() for _ in range(3))) == [False] * 3
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 20)
    assert await model.is_ready()
