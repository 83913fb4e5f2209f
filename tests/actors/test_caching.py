"""What is asked again is answered from the cache; who asks meanwhile shares it, and nobody is lost."""

import asyncio
import mmap
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.cache import CacheCounters, Key, LocalCache, Receive
from deuteron.actors.caching import CachedVersion, key_of
from deuteron.actors.leases import Leases
from deuteron.actors.loading import LoadOptions
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.actors.schedule import Job
from deuteron.actors.statistics import Statistics
from deuteron.proto.admission import Admission
from deuteron.proto.config import ModelConfig, read_config, validated
from deuteron.proto.datatypes import Datatype
from deuteron.proto.errors import Fault, InferError, internal
from deuteron.proto.message import Correlation, Request, Response
from deuteron.proto.stored_outputs import StoredOutputs
from deuteron.proto.tensor import Tensor

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]

CACHED = """
backend: "identity"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "INPUT1" data_type: TYPE_FP32 dims: [ -1 ] optional: true }
]
output [
  { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ -1 ] }
]
response_cache { enable: true }
"""
ORDERED = CACHED + "dynamic_batching { preserve_ordering: true }"

TWICE = """
platform: "ensemble"
max_batch_size: 8
input [{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }]
ensemble_scheduling { step [
  { model_name: "inner" model_version: -1
    input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "OUT" } }
] }
"""


def ask(*values: float, **settings: object) -> Request:
    tensor = Tensor.from_numpy(np.array([values], np.float32))
    return Request("model", inputs={"INPUT0": tensor}, **settings)  # type: ignore[arg-type] # the fields of a request


def answer(value: float) -> Response:
    return Response({"OUTPUT0": Tensor.from_numpy(np.array([[value]], np.float32))})


def read(text: str) -> ModelConfig:
    return validated(read_config(text.encode(), "config.pbtxt", "model", None))


class Model:
    """A version whose answers the test gives by hand."""

    name, version, edition = "model", 1, b"edition"

    def __init__(self, text: str = CACHED) -> None:
        self.config = read(text)
        self.admission = Admission(self.config)
        self.labels: Mapping[str, Sequence[str]] = {}
        self.statistics = Statistics()
        self.leases = Leases(self._note_drain)
        self.jobs: list[Job] = []
        self.cancelled: list[Request] = []
        self.refusal: InferError | None = None
        self.drains = 0
        self.busy = False
        self.pending = 0

    def infer(self, request: Request, reply: object) -> Job:
        raise AssertionError("the cache has checked the request already")

    def take(self, job: Job) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.jobs.append(job)

    def cancel(self, request: Request) -> None:
        self.cancelled.append(request)

    async def is_ready(self) -> bool:
        return True

    async def serve(self) -> None:
        return None

    def drain(self) -> None:
        self.leases.drain()

    def _note_drain(self) -> None:
        self.drains += 1


class Slow:
    """A store that finds things when it is told to."""

    shared, largest = True, 1 << 20

    def __init__(self) -> None:
        self.counters = CacheCounters()
        self.wanted: list[Receive] = []
        self.kept: list[StoredOutputs] = []

    def lookup(self, key: Key, receive: Receive) -> None:
        self.wanted.append(receive)

    def insert(self, key: Key, stored: StoredOutputs, size: int) -> None:
        self.kept.append(stored)


class Bench:
    """A model behind a cache."""

    def __init__(self, text: str = CACHED, store: Slow | LocalCache | None = None) -> None:
        self.model = Model(text)
        self.cached = CachedVersion(self.model, LocalCache(1 << 20) if store is None else store)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Hits, misses, failures, and who is pending."""
        told = self.model.statistics
        return told.cache_hit.count, told.cache_miss.count, told.fail.count, told.pending

    def infer(self, request: Request) -> OneReply:
        reply = OneReply()
        self.cached.infer(request, reply)
        return reply

    def answer(self, response: Response) -> None:
        """Have the model answer the request that has waited longest."""
        self.model.jobs.pop(0).reply.send(response)


async def value(reply: OneReply) -> float:
    response = await asyncio.wait_for(reply, 5)
    return float(response.outputs["OUTPUT0"].numpy()[0, 0])


async def failure(reply: OneReply) -> InferError:
    with pytest.raises(InferError) as raised:
        await asyncio.wait_for(reply, 5)
    return raised.value


async def test_what_is_asked_again_is_answered_without_the_model() -> None:
    bench = Bench()
    first = bench.infer(ask(1))
    bench.answer(answer(10))
    assert await value(first) == 10
    assert await value(bench.infer(ask(1))) == 10
    assert not bench.model.jobs
    assert bench.counts == (1, 1, 0, 0)
    statistics = bench.model.statistics
    assert statistics.success.count == statistics.queue.count == 1, "the model counts what it executes itself"
    assert (statistics.inference_count, statistics.execution_count) == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        ask(2),
        ask(1, 1),
        ask(1, requested_outputs=("OUTPUT1",)),
        Request("model", inputs={"INPUT0": Tensor(Datatype.FP32, (2, 1), struct.pack("<2f", 1, 1))}),
        Request("model", inputs={name: ask(1).inputs["INPUT0"] for name in ("INPUT0", "INPUT1")}),
    ],
    ids=["element", "more elements", "wanted outputs", "shape", "another input"],
)
async def test_what_differs_is_another_question(other: Request) -> None:
    bench = Bench()
    bench.infer(ask(1))
    bench.answer(answer(10))
    bench.infer(other)
    assert len(bench.model.jobs) == 1


async def test_what_differs_in_name_only_is_the_same_question() -> None:
    bench = Bench()
    bench.infer(ask(1, id="first"))
    bench.answer(answer(10))
    assert await value(bench.infer(ask(1, id="second", parameters={"key": 1}))) == 10


def numbers(raw: bytes, *shape: int, datatype: Datatype = Datatype.UINT8) -> Tensor:
    return Tensor(datatype, shape or (len(raw),), raw)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"A": numbers(b"1B2")}, {"A": numbers(b"1"), "B": numbers(b"2")}),
        ({"A": numbers(b"12"), "B": numbers(b"3")}, {"A": numbers(b"1"), "B": numbers(b"23")}),
        (
            {"A": numbers(b"1B2(1,);2", 1, datatype=Datatype.BYTES)},
            {"A": numbers(b"1", 1, datatype=Datatype.BYTES), "B": numbers(b"2")},
        ),
        ({"A": numbers(b"12", 1, 2)}, {"A": numbers(b"12", 2, 1)}),
        ({"A": numbers(b"1")}, {"A": numbers(b"1", datatype=Datatype.INT8)}),
        ({"A": numbers(b"1")}, {"B": numbers(b"1")}),
    ],
    ids=["names", "elements", "strings", "shapes", "datatypes", "inputs"],
)
def test_different_questions_have_different_keys(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert key_of(b"", Request("model", inputs=left)) != key_of(b"", Request("model", inputs=right))
    both = dict(reversed(left.items()))
    assert key_of(b"", Request("model", inputs=left)) == key_of(b"", Request("model", inputs=both))
    assert key_of(b"", Request("model", inputs=left)) != key_of(b"other", Request("model", inputs=left))


async def test_requests_that_ask_the_same_at_the_same_time_share_one_execution() -> None:
    bench = Bench()
    replies = [bench.infer(ask(1)) for _ in range(5)]
    assert len(bench.model.jobs) == 1
    assert bench.model.statistics.pending == 4
    assert bench.cached.busy
    bench.answer(answer(10))
    assert [await value(reply) for reply in replies] == [10] * 5
    assert bench.counts == (4, 1, 0, 0)
    assert not bench.cached.busy


async def test_an_answer_never_comes_before_the_question_was_taken() -> None:
    bench = Bench()
    bench.infer(ask(1))
    bench.answer(answer(10))
    told: list[Response] = []

    class Listener:
        def send(self, response: Response) -> None:
            told.append(response)

    bench.cached.infer(ask(1), Listener())
    assert not told
    await asyncio.sleep(0)
    assert len(told) == 1


async def test_a_failure_is_not_kept_and_fails_nobody_who_followed() -> None:
    bench = Bench()
    replies = [bench.infer(ask(1)) for _ in range(3)]
    bench.answer(Response(error=internal("broken")))
    assert (await failure(replies[0])).message == "broken"
    assert len(bench.model.jobs) == 2, "each goes its own way"
    bench.answer(answer(10))
    bench.answer(answer(10))
    assert [await value(reply) for reply in replies[1:]] == [10, 10]
    assert await value(bench.infer(ask(1))) == 10


async def test_when_the_leader_is_cancelled_the_next_one_leads() -> None:
    bench = Bench()
    first, second, third = (ask(1) for _ in range(3))
    replies = [bench.infer(request) for request in (first, second, third)]
    bench.cached.cancel(first)
    assert bench.model.cancelled == [first]
    bench.answer(Response(error=InferError(Fault.CANCELLED, "")))
    (job,) = bench.model.jobs
    assert job.request is second
    bench.answer(answer(10))
    assert (await failure(replies[0])).fault is Fault.CANCELLED
    assert [await value(reply) for reply in replies[1:]] == [10, 10]
    assert bench.counts[3] == 0


async def test_a_follower_that_is_cancelled_is_answered_and_the_model_hears_nothing() -> None:
    bench = Bench()
    leader = bench.infer(ask(1))
    request = ask(1)
    follower = bench.infer(request)
    bench.cached.cancel(request)
    assert not bench.model.cancelled
    assert (await failure(follower)).fault is Fault.CANCELLED
    assert bench.model.statistics.failures["CANCELED"] == 1
    bench.answer(answer(10))
    assert await value(leader) == 10
    assert bench.counts == (0, 1, 1, 0)


async def test_a_refusal_reaches_whoever_asked_and_all_who_followed() -> None:
    store = Slow()
    bench = Bench(store=store)
    replies = [bench.infer(ask(1)) for _ in range(3)]
    bench.model.refusal = InferError(Fault.UNAVAILABLE, "full")
    store.wanted.pop()(None)
    assert [(await failure(reply)).message for reply in replies] == ["full"] * 3
    assert bench.counts == (0, 0, 0, 0)


async def test_a_request_that_is_cancelled_while_it_is_looked_up_never_runs() -> None:
    store = Slow()
    bench = Bench(store=store)
    first, second = ask(1), ask(1)
    replies = [bench.infer(first), bench.infer(second)]
    bench.cached.cancel(first)
    store.wanted.pop()(None)
    assert [job.request for job in bench.model.jobs] == [second]
    bench.answer(answer(10))
    assert (await failure(replies[0])).fault is Fault.CANCELLED
    assert await value(replies[1]) == 10


async def test_a_version_does_not_drain_while_somebody_waits_for_the_cache() -> None:
    store = Slow()
    bench = Bench(store=store)
    reply = bench.infer(ask(1))
    bench.cached.drain()
    assert bench.model.drains == 0
    store.wanted.pop()(None)
    assert bench.model.drains == 1
    bench.answer(answer(10))
    assert await value(reply) == 10


async def test_a_shared_store_is_not_believed_what_the_model_could_not_have_said() -> None:
    store = Slow()
    bench = Bench(store=store)
    wrong = Tensor.from_numpy(np.zeros(1, np.int64))
    for outputs in ({"OUTPUT0": wrong}, {"OTHER": wrong}, {}):
        bench.infer(ask(1))
        store.wanted.pop()(StoredOutputs.of(outputs))
        bench.answer(answer(10))
    assert bench.counts == (0, 3, 0, 0)


async def test_a_wrong_request_is_refused_and_leaves_nothing_behind() -> None:
    bench = Bench()
    with pytest.raises(InferError, match="unexpected inference output 'X'"):
        bench.cached.infer(ask(1, requested_outputs=("X",)), OneReply())
    assert bench.counts == (0, 0, 0, 0)
    assert not bench.cached.busy


async def test_an_answer_that_is_too_large_is_shared_but_not_kept() -> None:
    bench = Bench(store=LocalCache(100))
    replies = [bench.infer(ask(1)) for _ in range(2)]
    bench.answer(answer(10))
    assert [await value(reply) for reply in replies] == [10, 10]
    bench.infer(ask(1))
    assert len(bench.model.jobs) == 1
    assert bench.counts[:2] == (1, 1)


async def test_what_is_kept_is_a_copy() -> None:
    bench = Bench()
    array = np.array([[10]], np.float32)
    bench.infer(ask(1))
    bench.answer(Response({"OUTPUT0": Tensor.from_numpy(array)}))
    array[:] = 0
    assert await value(bench.infer(ask(1))) == 10


async def test_two_responses_are_not_kept() -> None:
    bench = Bench()
    bench.infer(ask(1))
    (job,) = bench.model.jobs
    job.reply.send(Response(answer(1).outputs, final=False))
    bench.answer(answer(2))
    bench.infer(ask(1))
    assert len(bench.model.jobs) == 1
    assert bench.counts[1] == 0


async def test_a_silent_end_does_not_count_as_a_response() -> None:
    bench = Bench()
    first = bench.infer(ask(1))
    (job,) = bench.model.jobs
    job.reply.send(Response(answer(10).outputs, final=False))
    bench.answer(Response(silent=True))
    assert await value(first) == 10
    assert await value(bench.infer(ask(1))) == 10


async def test_sequences_pass_by() -> None:
    bench = Bench()
    for _ in range(2):
        bench.infer(ask(1, correlation=Correlation(7, start=True)))
    assert len(bench.model.jobs) == 2


async def test_a_client_cannot_change_a_question_after_it_was_asked() -> None:
    """What lies in shared memory may change until the model reads it; the cache must not learn from that."""
    bench = Bench()
    with mmap.mmap(-1, 4) as mapping:
        mapping[:] = struct.pack("<f", 1)
        view = memoryview(mapping)
        bench.infer(Request("model", inputs={"INPUT0": Tensor(Datatype.FP32, (1, 1), view)}))
        mapping[:] = struct.pack("<f", 2)
        (job,) = bench.model.jobs
        assert job.request.inputs["INPUT0"].numpy().tolist() == [[1]]
        view.release()


async def test_answers_keep_their_order_where_the_model_promises_it() -> None:
    bench = Bench(ORDERED)
    bench.infer(ask(1))
    bench.answer(answer(10))
    told: list[str] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self.name = name

        def send(self, response: Response) -> None:
            told.append(self.name)

    bench.cached.infer(ask(2), Listener("miss"))
    bench.cached.infer(ask(1), Listener("hit"))
    await asyncio.sleep(0)
    assert not told
    bench.answer(answer(20))
    assert told == ["miss", "hit"]


# --- in a repository ---


async def test_a_model_that_is_loaded_anew_knows_nothing_of_what_the_old_one_said(
    write_model: Write, open_repository: Open
) -> None:
    directory = write_model("model", CACHED)
    cache = LocalCache(1 << 20)
    repository = await open_repository(options=LoadOptions(cache=cache))

    async def infer() -> None:
        reply = OneReply()
        repository.find("model").infer(ask(1), reply)
        await reply

    await infer()
    await infer()
    assert (cache.counters.hits, cache.counters.misses) == (1, 1)
    (directory / "1" / "weights").write_text("new")
    await repository.load("model")
    await infer()
    assert (cache.counters.hits, cache.counters.misses) == (1, 2)


@pytest.mark.parametrize(
    ("outer", "inner", "hits"), [(True, False, (1, 0)), (True, True, (1, 0)), (False, True, (0, 1))]
)
async def test_an_ensemble_is_cached_at_its_top_or_step_by_step(
    write_model: Write, open_repository: Open, outer: bool, inner: bool, hits: tuple[int, int]
) -> None:
    enabled = "response_cache { enable: true }"
    write_model("inner", CACHED if inner else CACHED.replace(enabled, ""))
    write_model("outer", TWICE + (enabled if outer else ""))
    repository = await open_repository(options=LoadOptions(cache=LocalCache(1 << 20)))
    for _ in range(2):
        reply = OneReply()
        tensor = ask(7).inputs["INPUT0"]
        repository.find("outer").infer(Request("outer", inputs={"IN": tensor}), reply)
        assert (await reply).outputs["OUT"].numpy().tolist() == [[7]]
    found = [repository.find(name).statistics.cache_hit.count for name in ("outer", "inner")]
    assert tuple(found) == hits
    assert repository.find("outer").statistics.success.count == 2


async def test_without_a_cache_a_model_that_allows_it_is_executed_each_time(
    write_model: Write, open_repository: Open
) -> None:
    write_model("model", CACHED)
    repository = await open_repository()
    for _ in range(2):
        reply = OneReply()
        repository.find("model").infer(ask(1), reply)
        await reply
    assert repository.find("model").statistics.execution_count == 2
