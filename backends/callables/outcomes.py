"""What a function returns, in four forms: an answer, one to be awaited, several one by one, or those awaited.

Decorators take none of them apart by themselves: they say what becomes of an answer, and `then` sees to it
that this happens whenever there is one.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from inspect import isasyncgen, isawaitable, isgenerator
from typing import Any

Outcome = Any
"""An answer, an awaitable of one, a generator of answers, or an asynchronous one."""
Convert = Callable[[Any], Any]


def then(outcome: Outcome, convert: Convert) -> Outcome:
    """Return the outcome with every answer converted when it comes."""
    if isgenerator(outcome):
        return _each(outcome, convert)
    if isinstance(outcome, AsyncGenerator):
        return _each_awaited(outcome, convert)
    if isawaitable(outcome):
        return _awaited(outcome, convert)
    return convert(outcome)


def together(outcomes: list[Outcome], convert: Callable[[list[Any]], Any]) -> Outcome:
    """Return the outcome of several calls as one; raises TypeError for generators, which never meet."""
    if any(isgenerator(each) or isasyncgen(each) for each in outcomes):
        raise TypeError("requests cannot be grouped for a function that generates its answers")
    if any(isawaitable(each) for each in outcomes):
        return _all_awaited(outcomes, convert)
    return convert(outcomes)


def _each(outcome: Generator[Any, Any, Any], convert: Convert) -> Generator[Any, None, None]:
    try:
        for answer in outcome:
            yield convert(answer)
    finally:
        outcome.close()


async def _each_awaited(outcome: AsyncGenerator[Any, None], convert: Convert) -> AsyncGenerator[Any, None]:
    try:
        async for answer in outcome:
            yield convert(answer)
    finally:
        await outcome.aclose()


async def _awaited(outcome: Awaitable[Any], convert: Convert) -> object:
    return convert(await outcome)


async def _all_awaited(outcomes: list[Any], convert: Callable[[list[Any]], Any]) -> object:
    return convert([await each if isawaitable(each) else each for each in outcomes])
