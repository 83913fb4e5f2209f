"""Instances share what is short: never more is held than there is, and everybody gets a turn."""

import random
from collections import Counter

import pytest

from deuteron.actors.sharing import GLOBAL, Claim, Member, Sharing, Supply
from deuteron.proto.errors import InferError


def claim(priority: int = 1, **needs: int) -> Claim:
    """Return a claim on resources of device 0; a name that ends in `_global` is global."""
    found = {(name, GLOBAL if name.endswith("_global") else 0): count for name, count in needs.items()}
    return Claim(found, priority)


def test_without_a_word_of_the_operator_there_is_as_much_as_one_needs_at_most() -> None:
    sharing = Sharing()
    large, small = sharing.join("large", claim(r=4)), sharing.join("small", claim(r=2))
    other = sharing.join("other", claim(r=2))
    assert sharing.begin(small)
    assert sharing.begin(other)
    assert not sharing.begin(large)
    sharing.finish(small)
    assert sharing.next_owner() is None
    sharing.finish(other)
    assert sharing.next_owner() == "large"
    assert sharing.begin(large)


def test_the_operator_may_say_that_there_is_more() -> None:
    sharing = Sharing([Supply("r", 6), Supply("s_global", 2)])
    large = sharing.join("large", claim(r=4))
    small = sharing.join("small", claim(r=2, s_global=2))
    assert sharing.begin(large)
    assert sharing.begin(small)


@pytest.mark.parametrize(
    ("supplies", "limit", "needed"),
    [
        ([Supply("r", 1)], 1, 4),
        ([Supply("r", 10, device=10)], 0, 4),
        ([Supply("other", 10)], 0, 4),
        ([Supply("r", 2), Supply("r", 3, device=0)], 3, 4),
    ],
)
def test_an_instance_that_could_never_run_is_refused_as_by_triton(
    supplies: list[Supply], limit: int, needed: int
) -> None:
    sharing = Sharing(supplies)
    with pytest.raises(InferError) as raised:
        sharing.join("model", claim(r=needed))
    assert raised.value.message == (
        f'Resource count for "r" is limited to {limit} which will prevent scheduling of one or more model '
        f"instances, the minimum required count is {needed}"
    )
    sharing.join("model", Claim({}))


def test_a_resource_is_global_to_all_or_to_none() -> None:
    sharing = Sharing()
    sharing.join("first", Claim({("r", GLOBAL): 1}))
    with pytest.raises(InferError) as raised:
        sharing.join("second", Claim({("r", 0): 1}))
    assert raised.value.message == (
        'Resource "r" is present as both global and device-specific resource in the model configuration.'
    )


def test_devices_have_each_their_own_and_what_is_global_is_shared() -> None:
    sharing = Sharing([Supply("r", 1), Supply("g", 1)])
    first, second = (sharing.join(str(device), Claim({("r", device): 1})) for device in (0, 1))
    assert sharing.begin(first)
    assert sharing.begin(second)
    one, other = (sharing.join(name, Claim({("g", GLOBAL): 1})) for name in ("one", "other"))
    assert sharing.begin(one)
    assert not sharing.begin(other)


def test_nobody_passes_by_one_who_needs_much() -> None:
    sharing = Sharing([Supply("r", 4)])
    small, large, other = (sharing.join(name, claim(r=n)) for name, n in (("a", 2), ("b", 4), ("c", 2)))
    assert sharing.begin(small)
    assert not sharing.begin(large)
    assert not sharing.begin(other), "it would fit, but another waits"
    sharing.stand_by(large)
    assert sharing.next_owner() == "c"
    assert sharing.begin(other)


def test_what_has_no_need_runs_though_others_wait() -> None:
    sharing = Sharing()
    free, first, second = sharing.join("a", Claim({})), *(sharing.join(name, claim(r=1)) for name in "bc")
    assert sharing.begin(first)
    assert not sharing.begin(second)
    assert sharing.begin(free)


def run_for(sharing: Sharing, members: dict[str, Member], turns: int) -> Counter[str]:
    """Let instances run one at a time that always have work; return how often each did."""
    ran: Counter[str] = Counter()
    for _ in range(turns):
        name = next(name for name, each in _by_turn(sharing, members) if sharing.begin(each))
        for other, member in members.items():
            if other != name:
                assert not sharing.begin(member)
        ran[name] += 1
        sharing.finish(members[name])
    return ran


def _by_turn(sharing: Sharing, members: dict[str, Member]) -> list[tuple[str, Member]]:
    names = {id(member): name for name, member in members.items()}
    return [(names[id(member)], member) for member in sharing.in_turn(members.values())]


def test_priorities_divide_the_time() -> None:
    sharing = Sharing()
    members = {
        name: sharing.join(name, claim(priority, r=1)) for name, priority in (("a", 1), ("b", 2), ("c", 4))
    }
    assert run_for(sharing, members, 70) == {"a": 40, "b": 20, "c": 10}


def test_the_more_urgent_goes_first_and_twice_before_one_half_as_urgent() -> None:
    sharing = Sharing()
    urgent, other = sharing.join("urgent", claim(1, r=1)), sharing.join("other", claim(2, r=1))
    ran = []
    for _ in range(6):
        first, second = sharing.in_turn([other, urgent])
        assert sharing.begin(first)
        assert not sharing.begin(second)
        ran.append(first.owner)
        sharing.finish(first)
    assert ran == ["urgent", "urgent", "other"] * 2


def test_whoever_comes_late_has_no_turns_to_make_up_for() -> None:
    sharing = Sharing()
    members = {"old": sharing.join("old", claim(r=1))}
    run_for(sharing, members, 1000)
    members["new"] = sharing.join("new", claim(r=1))
    ran = run_for(sharing, members, 100)
    assert abs(ran["old"] - ran["new"]) <= 1


def test_whoever_stood_by_has_no_turns_to_make_up_for() -> None:
    sharing = Sharing()
    members = {"busy": sharing.join("busy", claim(r=1)), "idle": sharing.join("idle", claim(r=1))}
    run_for(sharing, {"busy": members["busy"]}, 1000)
    ran = run_for(sharing, members, 100)
    assert abs(ran["busy"] - ran["idle"]) <= 1


def test_what_was_declined_was_no_turn() -> None:
    sharing = Sharing()
    member = sharing.join("a", claim(r=1))
    before = member.passed
    assert sharing.begin(member)
    sharing.decline(member)
    assert member.passed == before
    assert sharing.begin(member)


def test_whoever_leaves_gives_all_back() -> None:
    sharing = Sharing()
    first, second = sharing.join("first", claim(r=1)), sharing.join("second", claim(r=1))
    assert sharing.begin(first)
    assert not sharing.begin(second)
    sharing.leave(first)
    assert sharing.next_owner() == "second"
    assert sharing.begin(second)
    sharing.check()


SUPPLIES = (Supply("r", 3), Supply("s", 5), Supply("t", 4))


class World:
    """Instances that come, want to run, run and go, at random."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.sharing = Sharing(SUPPLIES)
        self.members: list[Member] = []
        self.join()

    def join(self) -> None:
        names = self.dice.sample("rst", self.dice.randint(0, 3))
        needs = {(name, GLOBAL if name == "t" else 0): self.dice.randint(1, 3) for name in names}
        self.members.append(self.sharing.join(len(self.members), Claim(needs, self.dice.randint(1, 3))))

    def happen(self) -> None:
        """Let something happen to somebody."""
        member = self.dice.choice(self.members)
        possible = ["finish", "stand by", "decline" if member.running else "begin"]
        possible += ["join"] * (len(self.members) < 6) + ["leave"] * (len(self.members) > 1)
        match self.dice.choice(possible):
            case "join":
                self.join()
            case "leave":
                self.sharing.leave(member)
                self.members.remove(member)
            case "begin":
                self.sharing.begin(member)
            case "finish":
                self.sharing.finish(member)
            case "decline":
                self.sharing.decline(member)
            case "stand by":
                self.sharing.stand_by(member)
        self.check()

    def check(self) -> None:
        self.sharing.check()
        held: Counter[str] = Counter()
        for member in self.members:
            if member.running:
                held.update({name: count for (name, _), count in member.claim.needs.items()})
        assert all(held[supply.name] <= supply.count for supply in SUPPLIES), "more is held than there is"


@pytest.mark.parametrize("seed", range(200))
def test_in_random_histories_the_books_are_true_and_everybody_gets_a_turn(seed: int) -> None:
    """50 events each: 10,000 in all, checked after every one; then all have work without end."""
    world = World(seed)
    for _ in range(50):
        world.happen()
    for member in world.members:
        world.sharing.finish(member)
    ran: Counter[int] = Counter()
    for _ in range(60 * len(world.members)):
        for member in world.members:
            if not member.running and world.sharing.begin(member):
                ran[id(member)] += 1
        world.check()
        running = [member for member in world.members if member.running]
        assert running, "somebody may always run"
        world.sharing.finish(world.dice.choice(running))
    assert all(ran[id(member)] for member in world.members), "somebody starves"
