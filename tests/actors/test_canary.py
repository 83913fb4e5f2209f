"""When a new version on trial is promoted, and when it is rolled back: in virtual time."""

import random

import pytest

from deuteron.actors.canary import Answers, Trial, Verdict
from deuteron.actors.clock import MILLISECOND, SECOND
from deuteron.proto.config.canary import CanaryPolicy

POLICY = CanaryPolicy(share=0.1, min_requests=100, seconds=60, max_error_rate=0.01, max_latency_ratio=1.5)


def answers(good: int, failed: int = 0, ms: float = 10.0) -> Answers:
    return Answers(good, failed, int(good * ms * MILLISECOND))


def judge(second: float, new: Answers, old: Answers | None = None, sent: int | None = None) -> Verdict:
    """Return the verdict at a second of a fresh trial."""
    trial = Trial(POLICY, now=0)
    given = new.count if sent is None else sent
    return trial.judge(int(second * SECOND), given, new, answers(1000) if old is None else old)[0]


@pytest.mark.parametrize(
    ("second", "new", "verdict"),
    [
        (60, answers(100), Verdict.PROMOTE),
        (59.9, answers(100), Verdict.WAIT),
        (60, answers(99), Verdict.WAIT),
        (600, answers(99), Verdict.WAIT),
        (60, answers(99, failed=1), Verdict.PROMOTE),
        (1, answers(0, failed=1), Verdict.WAIT),
        (1, answers(0, failed=2), Verdict.ROLL_BACK),
        (60, answers(985, failed=10), Verdict.ROLL_BACK),
        (60, answers(990, failed=10), Verdict.PROMOTE),
        (60, answers(100, ms=16.1), Verdict.ROLL_BACK),
        (60, answers(100, ms=15.9), Verdict.PROMOTE),
        (1, answers(100, ms=30.0), Verdict.ROLL_BACK),
        (1, answers(99, ms=30.0), Verdict.WAIT),
    ],
)
def test_a_trial_ends_when_enough_is_known(second: float, new: Answers, verdict: Verdict) -> None:
    assert judge(second, new) is verdict


def test_what_the_old_version_fails_as_well_is_not_held_against_the_new_one() -> None:
    """Clients send nonsense to both, one time in ten."""
    assert judge(60, answers(90, failed=10), answers(900, failed=100)) is Verdict.PROMOTE
    assert judge(60, answers(85, failed=15), answers(900, failed=100)) is Verdict.ROLL_BACK


def test_latency_is_compared_only_with_enough_answers_of_the_old_version() -> None:
    assert judge(60, answers(100, ms=90.0), answers(99)) is Verdict.PROMOTE


def test_what_is_quick_may_vary() -> None:
    assert judge(60, answers(100, ms=1.1), answers(1000, ms=0.1)) is Verdict.PROMOTE
    assert judge(60, answers(100, ms=1.2), answers(1000, ms=0.1)) is Verdict.ROLL_BACK


def test_a_version_that_does_not_answer_is_rolled_back_after_a_while() -> None:
    trial = Trial(POLICY, now=0)
    for second in range(30):
        assert trial.judge(second * SECOND, second, answers(second), answers(9))[0] is Verdict.WAIT
    for second in range(30, 89):
        assert trial.judge(second * SECOND, 40, answers(29), answers(9))[0] is Verdict.WAIT
    verdict, why = trial.judge(89 * SECOND, 40, answers(29), answers(9))
    assert verdict is Verdict.ROLL_BACK
    assert why == "11 requests were not answered for 60 s"


def test_a_version_that_nobody_asks_stays_on_trial() -> None:
    trial = Trial(POLICY, now=0)
    for second in range(0, 3600, 10):
        assert trial.judge(second * SECOND, 0, answers(0), answers(second))[0] is Verdict.WAIT


def test_the_story_is_told_for_people() -> None:
    trial = Trial(POLICY, now=0)
    trial.judge(12 * SECOND, 58, answers(57, failed=1), answers(500))
    assert trial.story(12 * SECOND) == (
        "canary: on trial for 12 s with 0.1 of the requests; 58 answered, 1 of them errors"
    )


@pytest.mark.parametrize("seed", range(200))
def test_a_sound_version_is_promoted_and_a_broken_one_never(seed: int) -> None:
    """Random traffic: what fails one in two hundred passes, what fails one in ten does not."""
    rng = random.Random(seed)
    for rate, expected in ((0.0, Verdict.PROMOTE), (0.1, Verdict.ROLL_BACK)):
        trial = Trial(POLICY, now=0)
        good = failed = old = 0
        verdict, now = Verdict.WAIT, 0
        while verdict is Verdict.WAIT:
            now += SECOND // 2
            for _ in range(rng.randint(0, 20)):
                if rng.random() < rate:
                    failed += 1
                else:
                    good += 1
            old += rng.randint(0, 200)
            verdict, _ = trial.judge(now, good + failed, answers(good, failed), answers(old))
        assert verdict is expected, f"{rate}: {good} good, {failed} failed after {now / SECOND} s"
        assert verdict is Verdict.ROLL_BACK or now >= 60 * SECOND
