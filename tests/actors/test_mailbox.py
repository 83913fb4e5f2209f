"""The inbox of an actor: bounded, refusing rather than blocking, answering at the end."""

import asyncio

import pytest

from deuteron.actors.clock import MILLISECOND, now
from deuteron.actors.mailbox import Mailbox, MailboxClosedError, MailboxFullError


async def test_messages_are_read_in_the_order_they_were_posted() -> None:
    """First in, first out, and then it is empty."""
    mailbox: Mailbox[int] = Mailbox()
    for number in range(3):
        mailbox.post(number)
    await mailbox.wait()
    assert mailbox.take() == [0, 1, 2]
    assert len(mailbox) == 0


async def test_a_full_mailbox_refuses_at_once_but_hears_signals() -> None:
    """Posts beyond the capacity are refused; what the actor must hear is not."""
    mailbox: Mailbox[str] = Mailbox(capacity=1)
    mailbox.post("first")
    with pytest.raises(MailboxFullError):
        mailbox.post("second")
    mailbox.signal("the end")
    assert mailbox.take() == ["first", "the end"]


async def test_a_closed_mailbox_refuses_posts_and_still_gives_what_it_holds() -> None:
    """Nothing that was accepted is lost."""
    mailbox: Mailbox[str] = Mailbox()
    mailbox.post("accepted")
    mailbox.close()
    with pytest.raises(MailboxClosedError):
        mailbox.post("too late")
    assert mailbox.take() == ["accepted"]


async def test_an_actor_that_waits_is_woken_by_a_message() -> None:
    """The wait ends when something is posted."""
    mailbox: Mailbox[str] = Mailbox()
    waiting = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.post("hello")
    await waiting


async def test_an_actor_that_waits_is_woken_by_its_instant() -> None:
    """The wait ends by time alone where an instant was given."""
    mailbox: Mailbox[str] = Mailbox()
    await mailbox.wait(until=now() + 2 * MILLISECOND)
    assert mailbox.take() == []


async def test_closing_wakes_an_actor_that_waits() -> None:
    """Nobody sleeps through the end."""
    mailbox: Mailbox[str] = Mailbox()
    waiting = asyncio.ensure_future(mailbox.wait())
    await asyncio.sleep(0)
    mailbox.close()
    await waiting
