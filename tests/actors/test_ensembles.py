"""Ensembles of real models: requests travel from router to router."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from deuteron.actors.reply import OneReply, StreamReply
from deuteron.actors.repository import Repository
from deuteron.proto.errors import Fault, InferError
from deuteron.proto.message import Correlation, Request
from deuteron.proto.tensor import Tensor

Write = Callable[..., Path]
Open = Callable[..., Awaitable[Repository]]
Told = list[int] | str

SQUARE = """
backend: "square"
model_transaction_policy { decoupled: true }
input { name: "IN" data_type: TYPE_INT32 dims: 1 }
output { name: "OUT" data_type: TYPE_INT32 dims: 1 }
"""
REPEAT = """
backend: "repeat"
model_transaction_policy { decoupled: true }
input [{ name: "IN" data_type: TYPE_INT32 dims: -1 },
  { name: "DELAY" data_type: TYPE_UINT32 dims: -1 }, { name: "WAIT" data_type: TYPE_UINT32 dims: 1 }]
output [{ name: "OUT" data_type: TYPE_INT32 dims: 1 }, { name: "IDX" data_type: TYPE_UINT32 dims: 1 }]
"""
IDENTITY = """
backend: "identity"
input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 }
output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }
"""
COUNT = 4


def ensemble(steps: str, outputs: str = "OUT", more: str = "") -> str:
    """Return an ensemble over `repeat` with the inputs of that, and `outputs`."""
    tensors = " ".join(
        f'output {{ name: "{each}" data_type: TYPE_INT32 dims: 1 }}' for each in outputs.split()
    )
    maps = " ".join(f'input_map {{ key: "{each}" value: "{each}" }}' for each in ("IN", "DELAY", "WAIT"))
    inputs = REPEAT[REPEAT.index("input [") : REPEAT.index("output [")]
    first = f'step {{ model_name: "repeat" model_version: -1 {maps} output_map {{ key: "OUT" value: "t" }} }}'
    return f'platform: "ensemble" {inputs} {tensors}\nensemble_scheduling {{ {more} {first} {steps} }}'


def step(model: str, read: str, written: str, more: str = "") -> str:
    """Return a step of a model with one input and one output, each given as `name=tensor`."""
    (input_, source), (output, target) = read.split("="), written.split("=")
    read = f'input_map {{ key: "{input_}" value: "{source}" }}'
    written = f'output_map {{ key: "{output}" value: "{target}" }}'
    return f'step {{ model_name: "{model}" model_version: -1 {read} {written} {more} }}'


ECHO = step("identity", "INPUT0=t", "OUTPUT0=OUT")


def numbers(*values: int) -> Request:
    """Ask `repeat` for these numbers, one after the other."""
    return Request(
        "any",
        inputs={
            "IN": Tensor.from_numpy(np.array(values, np.int32)),
            "DELAY": Tensor.from_numpy(np.zeros(len(values), np.uint32)),
            "WAIT": Tensor.from_numpy(np.zeros(1, np.uint32)),
        },
    )


@pytest.fixture
def models(write_model: Write) -> None:
    """Write the models that ensembles are made of."""
    write_model("repeat", REPEAT)
    write_model("square", SQUARE)
    write_model("identity", f"{IDENTITY} instance_group {{ kind: KIND_CPU count: {COUNT} }}")
    write_model("failing", IDENTITY + 'parameters { key: "fail_every" value { string_value: "3" } }')


def asked(repository: Repository, name: str, request: Request) -> StreamReply:
    """Ask an ensemble, with credit for what is not read."""
    reply = StreamReply()
    request.flow = reply.flow
    repository.find(name).infer(request, reply)
    return reply


async def told(reply: StreamReply) -> list[Told]:
    """Return the numbers of all answers, and an error as its text; the final flag may come by itself."""
    found: list[Told] = []
    async with asyncio.timeout(20):
        async for response in reply:
            if response.error is not None:
                found.append(response.error.message)
            elif not response.silent:
                found.append([each.numpy().item() for each in response.outputs.values()])
    return found


async def idle(repository: Repository) -> None:
    """Wait until no model has anything to do."""
    names = [entry.name for entry in repository.index() if entry.state == "READY"]
    async with asyncio.timeout(20):
        while any(repository.find(name).busy for name in names):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("models")
async def test_each_answer_of_a_step_is_an_answer_of_the_ensemble(
    write_model: Write, open_repository: Open
) -> None:
    """In order, though four instances race for them; the final flag is the producer's."""
    write_model("echo", ensemble(ECHO))
    repository = await open_repository()
    assert repository.find("echo").config.decoupled
    assert await told(asked(repository, "echo", numbers(*range(100)))) == [*([n] for n in range(100))]
    assert await told(asked(repository, "echo", numbers())) == []
    statistics = repository.find("echo").statistics
    await idle(repository)
    assert (statistics.success.count, statistics.execution_count, statistics.fail.count) == (2, 2, 0)
    assert repository.find("identity").statistics.inference_count == 100


@pytest.mark.usefixtures("models")
async def test_decoupled_steps_behind_each_other(write_model: Write, open_repository: Open) -> None:
    """Three numbers, each as often as it says, in the order in which a loop in a loop would print them."""
    write_model(
        "nested", ensemble(step("square", "IN=t", "OUT=s") + step("identity", "INPUT0=s", "OUTPUT0=OUT"))
    )
    repository = await open_repository()
    expected: list[Told] = [[3], [3], [3], [1], [2], [2]]
    assert await told(asked(repository, "nested", numbers(3, 0, 1, 2))) == expected


@pytest.mark.usefixtures("models")
async def test_a_client_that_does_not_read_holds_the_producer_back(
    write_model: Write, open_repository: Open
) -> None:
    """Of ten thousand answers a few hundred are made, until the client goes away and all is let go."""
    write_model("echo", ensemble(ECHO))
    repository = await open_repository()
    request = numbers(*range(10_000))
    reply = asked(repository, "echo", request)
    for number in range(300):
        assert (await anext(reply)).outputs["OUT"].numpy().item() == number
    await _quiet(repository)
    assert repository.find("identity").statistics.inference_count < 2000
    repository.find("echo").cancel(request)
    await idle(repository)
    assert repository.find("echo").statistics.failures["CANCELED"] == 1


async def _quiet(repository: Repository) -> None:
    """Wait until nothing more is made."""
    statistics = repository.find("identity").statistics
    before = -1
    while statistics.inference_count != before:
        before = statistics.inference_count
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("models")
async def test_an_error_ends_the_request_at_once(write_model: Write, open_repository: Open) -> None:
    """The third answer fails: the two before it were told, the rest never is, and everything ends."""
    write_model("broken", ensemble(step("failing", "INPUT0=t", "OUTPUT0=OUT")))
    repository = await open_repository()
    found = await told(asked(repository, "broken", numbers(*range(1000))))
    assert found == [[0], [1], "in ensemble 'broken', execution 3 is refused, as 'fail_every' says"]
    await idle(repository)


@pytest.mark.usefixtures("models")
async def test_a_full_queue_of_a_step_ends_the_request(write_model: Write, open_repository: Open) -> None:
    write_model(
        "narrow",
        'backend: "identity" max_batch_size: 1 input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } '
        'output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 } '
        'parameters { key: "execute_delay_ms" value { string_value: "50" } } '
        "dynamic_batching { default_queue_policy { max_queue_size: 2 } }",
    )
    write_model("stuffed", ensemble(step("narrow", "INPUT0=t", "OUTPUT0=OUT")))
    repository = await open_repository()
    found = await told(asked(repository, "stuffed", numbers(*range(100))))
    assert found[-1] == ("in ensemble 'stuffed', [request id: <id_unknown>] Exceeds maximum queue size")
    await idle(repository)


@pytest.mark.usefixtures("models")
async def test_no_more_requests_are_on_their_way_through_a_step_than_it_may_have(
    write_model: Write, open_repository: Open
) -> None:
    """With a limit of two, four instances never see more at a time, whoever asks; the order is kept."""
    write_model("limited", ensemble(ECHO, more="max_inflight_requests: 2"))
    repository = await open_repository()
    identity = repository.find("identity")
    replies = [asked(repository, "limited", numbers(*range(50))) for _ in range(3)]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, identity.statistics.pending)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    for reply in replies:
        assert await told(reply) == [*([n] for n in range(50))]
    watcher.cancel()
    assert most <= 2
    await idle(repository)


@pytest.mark.usefixtures("models")
async def test_requests_that_wait_for_a_limit_can_be_cancelled(
    write_model: Write, open_repository: Open
) -> None:
    """Those that wait are forgotten, and what they would have held is there for the next."""
    write_model("limited", ensemble(ECHO, more="max_inflight_requests: 1"))
    repository = await open_repository()
    requests = [numbers(*range(1000)) for _ in range(8)]
    replies = [asked(repository, "limited", each) for each in requests]
    await anext(replies[0])  # the others are not let through the first step yet
    for each in requests:
        repository.find("limited").cancel(each)
    await idle(repository)
    assert await told(asked(repository, "limited", numbers(1))) == [[1]]


@pytest.mark.usefixtures("models")
async def test_what_a_branch_that_is_not_taken_would_have_cost_is_not_spent(
    write_model: Write, open_repository: Open
) -> None:
    """Even numbers go one way and the others another; both make the same output."""
    write_model("other", IDENTITY)
    here = step("identity", "INPUT0=t", "OUTPUT0=OUT", 'when: "t < 3"')
    there = step("other", "INPUT0=t", "OUTPUT0=OUT", 'when: "t >= 3"')
    write_model("either", ensemble(here + there))
    repository = await open_repository()
    assert await told(asked(repository, "either", numbers(1, 5, 2))) == [[1], [5], [2]]
    assert repository.find("identity").statistics.inference_count == 2
    assert repository.find("other").statistics.inference_count == 1
    message = repository.find("either").config.message
    assert message.ensemble_scheduling.step[1].when == "t < 3"


@pytest.mark.usefixtures("models")
async def test_ensembles_of_decoupled_ensembles(write_model: Write, open_repository: Open) -> None:
    """One ensemble is a step of another, with an order and a credit of its own."""
    write_model("echo", ensemble(ECHO))
    outer = ensemble(ECHO).replace('model_name: "repeat"', 'model_name: "echo"')
    write_model("outer", outer)
    repository = await open_repository()
    assert await told(asked(repository, "outer", numbers(*range(1000)))) == [*([n] for n in range(1000))]


PLAIN = """
platform: "ensemble"
input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 }
output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }
"""


@pytest.mark.usefixtures("models")
async def test_everything_that_a_request_says_goes_on_with_every_step(
    write_model: Write, open_repository: Open
) -> None:
    """A Python model at the end of a chain tells what it got to see."""
    model = write_model(
        "tells",
        'backend: "python" input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } '
        'output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }',
    )
    (model / "1" / "model.py").write_text(TELLS)
    chain = step("identity", "INPUT0=INPUT0", "OUTPUT0=between") + step(
        "tells", "INPUT0=between", "OUTPUT0=OUTPUT0"
    )
    write_model("chain", f"{PLAIN} ensemble_scheduling {{ {chain} }}")
    repository = await open_repository()
    request = Request(
        "chain",
        id="7",
        inputs={"INPUT0": Tensor.from_numpy(np.zeros(1, np.int32))},
        parameters={"own": "value"},
        correlation=Correlation(42, start=True),
        priority=3,
        timeout_us=1_000_000,
    )
    reply = OneReply()
    repository.find("chain").infer(request, reply)
    with pytest.raises(InferError) as refused:
        await reply
    assert refused.value.fault is Fault.INVALID_ARG
    assert refused.value.message == """in ensemble 'chain', 7 42 1 1000000 {"own":"value"}"""


TELLS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        known = request.request_id(), request.correlation_id(), request.flags(), request.timeout()
        text = " ".join(map(str, (*known, request.parameters())))
        return pb_utils.InferenceResponse([], pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
"""


@pytest.mark.usefixtures("models")
async def test_a_step_that_makes_another_shape_than_it_promised_fails_the_request(
    write_model: Write, open_repository: Open
) -> None:
    """The model behind it is not bothered with what it does not take."""
    model = write_model(
        "wrong",
        'backend: "python" input { name: "INPUT0" data_type: TYPE_INT32 dims: 1 } '
        'output { name: "OUTPUT0" data_type: TYPE_INT32 dims: 1 }',
    )
    (model / "1" / "model.py").write_text(WRONG)
    write_model(
        "chain",
        ensemble(step("wrong", "INPUT0=t", "OUTPUT0=w") + step("identity", "INPUT0=w", "OUTPUT0=OUT")),
    )
    repository = await open_repository()
    (error,) = await told(asked(repository, "chain", numbers(1)))
    assert isinstance(error, str)
    assert error.startswith("in ensemble 'chain', ")
    assert "unexpected shape for input 'INPUT0' for model 'identity'. Expected [1], got [2]" in error
    await idle(repository)


WRONG = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        tensor = pb_utils.Tensor("OUTPUT0", np.zeros(2, np.int32))
        return [pb_utils.InferenceResponse([tensor]) for request in requests]
"""


@pytest.mark.usefixtures("models")
async def test_a_producer_that_never_finishes_ends_with_its_client(
    write_model: Write, open_repository: Open
) -> None:
    """However fast the client reads, and whatever comes behind the producer."""
    model = write_model("endless", REPEAT.replace('"repeat"', '"python"'))
    (model / "1" / "model.py").write_text(ENDLESS)
    write_model("echo", ensemble(ECHO).replace('model_name: "repeat"', 'model_name: "endless"'))
    repository = await open_repository()
    request = numbers(7)
    reply = asked(repository, "echo", request)
    for number in range(2000):
        assert (await anext(reply)).outputs["OUT"].numpy().item() == number
    repository.find("echo").cancel(request)
    await idle(repository)


ENDLESS = """
import itertools
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        for number in itertools.count():
            if sender.is_cancelled():
                break
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], np.int32))]))
        sender.send(flags=1)
"""
