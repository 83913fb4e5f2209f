"""Servers that are libraries, as small as their tests need them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from deuteron import AsyncServer, Server


@pytest.fixture
async def server() -> AsyncIterator[AsyncServer]:
    """Have a server without doors and models on the loop of the test."""
    async with AsyncServer(doors=False) as server:
        yield server


@pytest.fixture
def beside() -> Iterator[Server]:
    """Have a server without doors and models beside the test."""
    with Server(doors=False) as server:
        yield server
