"""Functions that are models: bound, asked, bound anew, and what becomes of what they raise."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deuteron import (
    AsyncServer,
    Correlation,
    DynamicBatcher,
    Fault,
    InferError,
    ModelConfig,
    ModelWarmup,
    Request,
    RequestOptions,
    Server,
    ServerConfig,
    Tensor,
    UnrecoverableError,
    WarmupInput,
    batch,
)

X = [Tensor(np.int32, (1,), "x")]
Y = [Tensor(np.int32, (1,), "y")]
ALONE = ModelConfig(batching=False)
STREAMING = ModelConfig(batching=False, decoupled=True)

Value = Any
"""An array, or a function of a program."""
Answers = list[dict[str, Value]]


def double(requests: list[Request]) -> Answers:
    """Answer twice what came."""
    return [{"y": request["x"] * 2} for request in requests]


def count_to_two(_: list[Request]) -> Iterator[Answers]:
    """Answer twice."""
    yield [{"y": np.array([1], np.int32)}]
    yield [{"y": np.array([2], np.int32)}]


def answered(function: Value, value: int, options: RequestOptions | None = None) -> Value:
    """Bind a function to a server of its own, and ask it."""
    with Server(doors=False) as server:
        server.bind("model", function, X, Y, config=ALONE)
        return server.model("model").infer({"x": [value]}, options or RequestOptions())["y"].item()


def test_a_function_is_a_model_whether_it_is_bound_before_the_start_or_after_it() -> None:
    server = Server(doors=False)
    server.bind("before", double, X, Y, config=ALONE)
    with server:
        server.bind("after", double, X, Y, config=ALONE)
        assert [server.model(name).infer({"x": [4]})["y"].item() for name in ("before", "after")] == [8, 8]
        assert [entry["name"] for entry in server.index()] == ["after", "before"]


def test_tensors_without_names_are_numbered_and_answers_may_come_in_their_order() -> None:
    with Server(doors=False) as server:

        @batch
        def swap(**inputs: Value) -> list[Value]:
            first, second = inputs.values()
            return [second, first]

        pair = [Tensor(np.float32, (-1,)), Tensor("float32", (-1,))]
        server.bind("swap", swap, pair, pair, strict=True)
        answer = server.model("swap").infer({"INPUT_1": [[1]], "INPUT_2": [[2, 3]]})
        assert {name: value.tolist() for name, value in answer.items()} == {
            "OUTPUT_1": [[2, 3]],
            "OUTPUT_2": [[1]],
        }


def test_models_stand_beside_those_of_a_repository_and_share_no_name(tmp_path: Path) -> None:
    (tmp_path / "twin" / "1").mkdir(parents=True)
    (tmp_path / "twin" / "config.pbtxt").write_text('backend: "identity"')
    config = ServerConfig(model_repository=tmp_path, model_control_mode="explicit")
    server = Server(config, doors=False)
    server.bind("alone", double, X, Y, config=ALONE)
    server.bind("twin", double, X, Y, config=ALONE)
    with pytest.raises(InferError, match="failed to load twin: twin: model appears in two or more"):
        server.run()


def test_in_explicit_mode_a_bound_model_is_there_and_may_go_and_come_back() -> None:
    server = Server(ServerConfig(model_control_mode="explicit"), doors=False)
    server.bind("model", double, X, Y, config=ALONE)
    with server:
        model = server.model("model")
        assert model.is_ready()
        server.unload("model")
        assert not model.is_ready()
        server.load("model")
        assert model.infer({"x": [1]})["y"].item() == 2


def test_a_request_brings_its_parameters_its_name_and_its_sequence() -> None:
    seen: list[Request] = []

    def look(requests: list[Request]) -> Answers:
        seen.extend(requests)
        return double(requests)

    options = RequestOptions(parameters={"scale": 2, "word": "w"}, id="seven", correlation=Correlation(5))
    assert answered(look, 1, options) == 2
    assert dict(seen[0].parameters) == {"scale": 2, "word": "w"}
    assert (seen[0].id, seen[0].correlation, seen[0].is_cancelled) == ("seven", Correlation(5), False)


async def test_requests_are_put_side_by_side_while_the_function_is_busy(server: AsyncServer) -> None:
    sizes: list[int] = []
    busy, go = threading.Event(), threading.Event()

    @batch
    def look(x: Value) -> dict[str, Value]:
        busy.set()
        go.wait()
        sizes.append(len(x))
        return {"y": x}

    await server.bind("model", look, X, Y, config=ModelConfig(max_batch_size=3))
    model = server.model("model")
    first = asyncio.create_task(model.infer({"x": [[0]]}))
    await asyncio.to_thread(busy.wait)
    others = [asyncio.create_task(model.infer({"x": [[number]]})) for number in range(1, 4)]
    await asyncio.sleep(0)
    go.set()
    assert [(await each)["y"].item() for each in (first, *others)] == [0, 1, 2, 3]
    assert sizes == [1, 3]


async def test_without_a_batcher_each_request_is_an_execution_of_its_own(server: AsyncServer) -> None:
    await server.bind("model", double, X, Y, config=ModelConfig(batcher=None))
    model = server.model("model")
    await asyncio.gather(*(model.infer({"x": [[number]]}) for number in range(4)))
    (counted,) = model.statistics()
    assert (counted["execution_count"], counted["inference_count"]) == (4, 4)
    assert "dynamic_batching" not in model.config()


async def test_every_other_scheduler_is_said_in_the_form_of_a_configuration(server: AsyncServer) -> None:
    sums: dict[int, int] = {}

    def add(requests: list[Request]) -> Answers:
        answers = []
        for request in requests:
            assert request.correlation is not None
            key = int(request["CORRID"].item())
            sums[key] = request["x"].item() + (0 if request["START"].item() else sums[key])
            answers.append({"y": np.array([[sums[key]]], np.int32)})
        return answers

    def control(kind: str, **of: object) -> dict[str, object]:
        return {"kind": f"CONTROL_SEQUENCE_{kind}", **of}

    extra = {
        "sequence_batching": {
            "oldest": {"max_candidate_sequences": 4},
            "control_input": [
                {"name": "START", "control": [control("START", int32_false_true=[0, 1])]},
                {"name": "CORRID", "control": [control("CORRID", data_type="TYPE_UINT64")]},
            ],
        }
    }
    await server.bind("model", add, X, Y, config=ModelConfig(extra=extra))
    model = server.model("model")
    for number in (1, 2, 3):
        options = RequestOptions(correlation=Correlation(7, start=number == 1, end=number == 3))
        answer = await model.infer({"x": [[number]]}, options)
    assert answer["y"].item() == 6


async def test_each_of_several_functions_is_an_instance(server: AsyncServer) -> None:
    together = threading.Barrier(2)

    def instance(number: int) -> Value:
        def tell(requests: list[Request]) -> Answers:
            together.wait()  # ends only if both run at once
            return [{"y": np.array([number], np.int32)} for _ in requests]

        return tell

    await server.bind("model", [instance(1), instance(2)], X, Y, config=ALONE)
    model = server.model("model")
    answers = await asyncio.gather(*(model.infer({"x": [0]}) for _ in range(2)))
    assert {answer["y"].item() for answer in answers} == {1, 2}


async def test_the_calls_of_a_coroutine_go_on_beside_each_other(server: AsyncServer) -> None:
    here: list[asyncio.Future[None]] = []

    async def wait_for_the_other(requests: list[Request]) -> Answers:
        future = asyncio.get_running_loop().create_future()
        here.append(future)
        if len(here) == 2:
            for each in here:
                each.set_result(None)
        await future
        return double(requests)

    await server.bind("model", wait_for_the_other, X, Y, config=ALONE)
    model = server.model("model")
    answers = await asyncio.gather(*(model.infer({"x": [number]}) for number in range(2)))
    assert [answer["y"].item() for answer in answers] == [0, 2]


async def test_a_generator_answers_as_often_as_it_likes(server: AsyncServer) -> None:
    def count(requests: list[Request]) -> Iterator[list[dict[str, Value] | None]]:
        for number in range(requests[0]["x"].item()):
            yield [{"y": np.array([number], np.int32)}]
        yield [None]

    async def count_awaiting(requests: list[Request]) -> AsyncIterator[list[dict[str, Value] | None]]:
        for answers in count(requests):
            await asyncio.sleep(0)
            yield answers

    await server.bind("plain", count, X, Y, config=STREAMING)
    await server.bind("awaiting", count_awaiting, X, Y, config=STREAMING)
    for name in ("plain", "awaiting"):
        for number in (0, 3):
            answers = server.model(name).stream({"x": [number]})
            assert [answer["y"].item() async for answer in answers] == list(range(number))


async def test_a_generator_whose_reader_is_gone_is_closed(server: AsyncServer) -> None:
    closed = threading.Event()

    def count(requests: list[Request]) -> Iterator[Answers]:
        number = 0
        try:
            while True:
                yield [{"y": np.array([number], np.int32)} for _ in requests]
                number += 1
        finally:
            closed.set()

    await server.bind("model", count, X, Y, config=STREAMING)
    answers = server.model("model").stream({"x": [0]})
    assert (await anext(answers))["y"].item() == 0
    await answers.aclose()
    assert await asyncio.to_thread(closed.wait, 10)


async def test_a_coroutine_whose_callers_are_gone_is_cancelled(server: AsyncServer) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def wait_for_ever(_: list[Request]) -> Answers:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return []

    await server.bind("model", wait_for_ever, X, Y, config=ALONE)
    asked = asyncio.create_task(server.model("model").infer({"x": [1]}))
    await asyncio.to_thread(begun.wait)
    asked.cancel()
    assert await asyncio.to_thread(cancelled.wait, 10)


async def test_what_a_generator_raises_ends_the_stream_after_what_it_said(server: AsyncServer) -> None:
    def count(requests: list[Request]) -> Iterator[Answers]:
        yield double(requests)
        raise ValueError("no more")

    await server.bind("model", count, X, Y, config=STREAMING)
    answers = server.model("model").stream({"x": [1]})
    assert (await anext(answers))["y"].item() == 2
    with pytest.raises(InferError, match="ValueError: no more"):
        await anext(answers)


async def test_a_name_bound_anew_answers_anew_and_what_came_before_as_before(server: AsyncServer) -> None:
    busy, go = threading.Event(), threading.Event()

    def old(requests: list[Request]) -> Answers:
        busy.set()
        go.wait()
        return double(requests)

    await server.bind("model", old, X, Y, config=ALONE)
    before = asyncio.create_task(server.model("model").infer({"x": [1]}))
    await asyncio.to_thread(busy.wait)
    await server.bind("model", lambda requests: [{"y": -each["x"]} for each in requests], X, Y, config=ALONE)
    assert (await server.model("model").infer({"x": [1]}))["y"].item() == -1
    go.set()
    assert (await before)["y"].item() == 2


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda _: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda _: [], "expected a list with an answer for each of 1 requests, got 0 of them"),
        (lambda _: None, "expected a list with an answer for each of 1 requests, got NoneType"),
        (
            lambda _: [None],
            "is a dictionary of arrays or a list of them, not NoneType",
        ),
        (lambda _: ["text"], "not str"),
        (lambda _: [{"z": 1}], "the model has no output 'z'"),
        (lambda _: [[1, 2]], "the answer has 2 outputs, the model 1"),
        (lambda _: [{"y": 1j}], "output 'y' is an array of complex128"),
        (lambda _: iter([]), "got list_iterator"),
        (count_to_two, "the function returned a generator, which takes ModelConfig"),
    ],
)
def test_what_is_no_answer_fails_the_request_and_says_why(function: Value, text: str) -> None:
    with Server(doors=False) as server:
        server.bind("model", function, X, Y, config=ALONE)
        with pytest.raises(InferError) as caught:
            server.model("model").infer({"x": [1]})
        assert caught.value.fault is Fault.INTERNAL
        assert text in caught.value.message
        assert server.model("model").is_ready()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"y": np.zeros(1, np.float64)}, "output 'y' is FP64, the model says INT32"),
        ({"y": np.zeros(2, np.int32)}, r"output 'y' has shape [2], the model says [1]"),
        ({"y": np.zeros((), np.int32)}, r"output 'y' has shape [], the model says [1]"),
        ({}, "the answer lacks 'y'"),
    ],
)
def test_strictly_an_answer_is_what_the_model_says(answer: dict[str, Value], text: str) -> None:
    with Server(doors=False) as server:
        server.bind("model", lambda _: [answer], X, Y, config=ALONE, strict=True)
        server.bind("lenient", lambda _: [answer], X, Y, config=ALONE)
        with pytest.raises(InferError) as caught:
            server.model("model").infer({"x": [1]})
        assert text in caught.value.message
        assert server.model("lenient").infer({"x": [1]}).keys() == answer.keys()


def test_strictly_an_answer_has_the_rows_of_its_request() -> None:
    with Server(doors=False) as server:
        server.bind("model", lambda _: [{"y": np.zeros((1, 1), np.int32)}], X, Y, strict=True)
        with pytest.raises(InferError, match=r"has shape \[1, 1\], the model says \[2, 1\]"):
            server.model("model").infer({"x": [[1], [2]]})


def test_outputs_that_nobody_wants_are_not_sent() -> None:
    with Server(doors=False) as server:
        outputs = [*Y, Tensor(np.int32, (1,), "z")]
        server.bind("model", lambda r: [{"y": r[0]["x"], "z": r[0]["x"]}], X, outputs, config=ALONE)
        assert list(server.model("model").infer({"x": [1]}, RequestOptions(outputs=("z",)))) == ["z"]


def test_a_function_may_refuse_with_an_error_of_its_own_choice() -> None:
    def refuse(_: list[Request]) -> Answers:
        raise InferError(Fault.NOT_FOUND, "no such page")

    with pytest.raises(InferError, match=r"^no such page$") as caught:
        answered(refuse, 1)
    assert caught.value.fault is Fault.NOT_FOUND


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_function_that_can_serve_no_more_ends_its_server(is_coroutine: bool) -> None:
    def give_up(_: list[Request]) -> Answers:
        raise UnrecoverableError("the device is gone")

    async def give_up_awaited(requests: list[Request]) -> Answers:
        return give_up(requests)

    server = Server(doors=False)
    server.bind("model", give_up_awaited if is_coroutine else give_up, X, Y, config=ALONE)
    server.run()
    with pytest.raises(InferError, match="the device is gone"):
        server.model("model").infer({"x": [1]})
    with pytest.raises(UnrecoverableError, match="the device is gone"):
        server.serve()
    assert not server.is_alive()


def test_a_warm_up_runs_before_the_model_is_ready() -> None:
    came: list[int] = []

    @batch
    def look(x: Value) -> dict[str, Value]:
        came.append(len(x))
        return {"y": x}

    sample = ModelWarmup("zeros", 2, {"x": WarmupInput(np.int32, (1,), zero_data=True)}, count=3)
    with Server(doors=False) as server:
        server.bind("model", look, X, Y, config=ModelConfig(model_warmup=[sample]))
        assert came == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("a/b", {}, "'a/b' is not the name of a model"),
        ("", {}, "'' is not the name of a model"),
        ("model", {"model_version": 0}, "cannot have version 0"),
        ("model", {"infer_func": []}, "bound to no function"),
        ("model", {"inputs": [Tensor(np.complex64, (1,))]}, "no tensor can be of type"),
        ("model", {"outputs": [Tensor(np.int32, (1,), optional=True)]}, "an output cannot be optional"),
        ("model", {"inputs": [*X, *X]}, "'x'"),
        ("model", {"config": ModelConfig(max_batch_size=0)}, "max_batch_size must be at least 1"),
        ("model", {"config": ModelConfig(extra={"no_such_field": 1})}, "no_such_field"),
        (
            "model",
            {"config": ModelConfig(batcher=DynamicBatcher(preferred_batch_size=[9]))},
            "preferred",
        ),
        (
            "model",
            {"config": ModelConfig(model_warmup=[ModelWarmup("w", 1, {"x": WarmupInput(np.int32, (1,))})])},
            "needs one of zero_data, random_data, input_data_file",
        ),
    ],
)
def test_what_cannot_be_bound_is_refused_at_once(
    name: str, arguments: dict[str, Value], complaint: str
) -> None:
    said = {"infer_func": double, "inputs": X, "outputs": Y, **arguments}
    with pytest.raises((InferError, ValueError), match=complaint):
        Server(doors=False).bind(name, **said)


def test_a_version_has_the_number_it_is_given() -> None:
    with Server(doors=False) as server:
        server.bind("model", double, X, Y, model_version=3, config=ALONE)
        assert server.model("model").infer({"x": [1]}).model_version == 3
