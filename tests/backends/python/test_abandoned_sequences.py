"""A model is told of sequences that were abandoned, if it has a method for that."""

import pytest

from deuteron.backends.api import RemembersSequences

from .conftest import Workbench, values

MODEL = """\
class TritonPythonModel:
    forgotten = 0
    {hook} forget_sequence(self, correlation_id, slot):
        self.forgotten += 100 * int(correlation_id) + slot
        {then}
    def execute(self, requests):
        return [answer(self.forgotten)]
"""


def forgotten(bench: Workbench, source: str, *sequences: tuple[int | str, int]) -> dict[str, list[float]]:
    """Tell a model of abandoned sequences, and ask it what it heard."""
    bench.write(source)
    engine = bench.engine()
    assert isinstance(engine, RemembersSequences)
    for correlation_id, slot in sequences:
        engine.forget_sequence(correlation_id, slot)
    (response,) = bench.start(engine, bench.ask()).of(0)
    return values(response)


@pytest.mark.parametrize("hook", ["def", "async def"])
def test_the_model_hears_the_correlation_id_and_the_slot(bench: Workbench, hook: str) -> None:
    source = MODEL.format(hook=hook, then="pass")
    assert forgotten(bench, source, (7, 2), ("5", 1)) == {"OUT": [702 + 501]}


def test_a_model_that_raises_lives_on_and_the_operator_hears_of_it(
    bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    source = MODEL.format(hook="def", then="raise KeyError('which one')")
    assert forgotten(bench, source, (7, 2)) == {"OUT": [702]}
    assert "KeyError: 'which one'" in caplog.text


def test_a_model_may_do_without(bench: Workbench) -> None:
    source = MODEL.format(hook="def", then="pass").replace("forget_sequence", "something_else")
    assert forgotten(bench, source, (7, 2)) == {"OUT": [0]}
