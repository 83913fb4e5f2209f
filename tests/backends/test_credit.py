"""Credit: who sends waits for who reads, and not for ever."""

import threading

from deuteron.backends.credit import Credit


def has_room(credit: Credit) -> bool:
    """Tell whether more may be sent; it changes from one look to the next."""
    return credit.has_room


class Sender(threading.Thread):
    """Takes credit for so many responses of one byte each, as fast as it gets it."""

    def __init__(self, credit: Credit, count: int) -> None:
        super().__init__(daemon=True)
        self._credit = credit
        self._left = count
        self.sent = threading.Semaphore(0)
        self.gave_up = False

    def run(self) -> None:
        """Send, until all is sent or nobody reads."""
        while self._left and not self.gave_up:
            self.gave_up = not self._credit.take(1)
            self._left -= 1
            self.sent.release()

    def sends(self, count: int) -> bool:
        """Tell whether it comes to send so many more."""
        return all(self.sent.acquire(timeout=10) for _ in range(count))

    @property
    def waits(self) -> bool:
        """Whether it has sent all that is told, and goes on to live."""
        return not self.sent.acquire(blocking=False) and self.is_alive()


def test_who_sends_waits_until_half_of_it_is_read() -> None:
    """With room for four it is woken when two are unread: waking it for each would cost more than sending."""
    credit = Credit(most_responses=4)
    sender = Sender(credit, 100)
    sender.start()
    assert sender.sends(4)
    credit.give_back()
    assert has_room(credit)
    assert sender.waits
    credit.give_back()
    assert sender.sends(2)
    assert not has_room(credit)
    credit.lift()
    sender.join(10)
    assert not sender.is_alive()


def test_bytes_count_as_well_and_a_single_response_may_have_more() -> None:
    credit = Credit(most_bytes=10)
    assert credit.take(1000)
    assert not has_room(credit)
    credit.give_back()
    assert has_room(credit)
    assert credit.take(9)
    assert credit.take(9)
    assert not has_room(credit)


def test_a_sender_gives_up_where_nothing_is_read() -> None:
    credit = Credit(most_responses=1, patience=0.001)
    sender = Sender(credit, 100)
    sender.start()
    sender.join(10)
    assert sender.gave_up


def test_a_reader_who_is_slow_is_no_reason_to_give_up() -> None:
    """Nothing is woken by the first of four, and yet the sender knows of it."""
    credit = Credit(most_responses=4, patience=0.05)
    sender = Sender(credit, 8)
    sender.start()
    assert sender.sends(4)
    reads = 0
    while sender.is_alive():
        credit.give_back()
        reads += 1
        sender.join(0.03)
    assert not sender.gave_up
    assert reads >= 2


def test_who_must_not_wait_is_called_when_there_is_room() -> None:
    credit = Credit(most_responses=1)
    called: list[str] = []
    credit.when_room(lambda: called.append("at once"))
    credit.spend(1)
    credit.spend(1)
    credit.when_room(lambda: called.append("later"))
    credit.give_back()
    assert called == ["at once"]
    credit.give_back()
    credit.give_back()
    assert called == ["at once", "later"]


def test_when_nobody_reads_any_more_everything_may_be_sent() -> None:
    credit = Credit(most_responses=1)
    credit.spend(1)
    called: list[None] = []
    credit.when_room(lambda: called.append(None))
    credit.lift()
    assert credit.take(1 << 40)
    assert credit.take(1 << 40)
    assert has_room(credit)
    assert called == [None]
