"""Python models that ask other models, and a house that serves them."""

import asyncio
import json
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from deuteron.actors.calls import Calls
from deuteron.actors.loading import LoadOptions
from deuteron.actors.reply import OneReply
from deuteron.actors.repository import Repository
from deuteron.backends.catalog import Catalog
from deuteron.proto.message import Request, Response

HEAD = """
import asyncio
import gc
import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

def ask(model="double", value=1.0, name="IN", outputs=("OUT",), **settings):
    tensor = pb_utils.Tensor(name, np.array([[value]], np.float32))
    return pb_utils.InferenceRequest(
        inputs=[tensor], requested_output_names=outputs, model_name=model, **settings
    )

def count(*values):
    tensor = pb_utils.Tensor("IN", np.array(values, np.int32))
    return pb_utils.InferenceRequest(
        inputs=[tensor], requested_output_names=["OUT"], model_name="count"
    )

def told(response):
    if response.has_error():
        return f"{response.error().code().name}: {response.error().message()}"
    return [tensor.as_numpy().ravel().tolist() for tensor in response.output_tensors()]
"""

# A model that says, as JSON, what the body of its `tell` returns.
TELLING = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = np.array([json.dumps(self.tell(request))], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOLD", text)])

    def tell(self, request):
"""
)
TELLING_CONFIG = """
backend: "python"
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1, 1 ] optional: true }]
output [{ name: "TOLD" data_type: TYPE_STRING dims: [ 1 ] }]
"""

DOUBLE = (
    HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value = request.inputs()[0].as_numpy()
        if value[0, 0] < 0:
            error = pb_utils.TritonError("negative", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        known = [request.request_id(), request.correlation_id(), request.flags(), request.timeout()]
        text = json.dumps([*known, json.loads(request.parameters()), request.requested_output_names()])
        about = pb_utils.Tensor("ABOUT", np.array([[text]], np.object_))
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value * 2), about])
"""
)
DOUBLE_CONFIG = """
backend: "python"
max_batch_size: 4
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [
  { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "ABOUT" data_type: TYPE_STRING dims: [ 1 ] }
]
"""

# One response for each element, a negative one when the request is cancelled; then the final flag alone.
COUNT = (
    HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.count, args=(request, request.get_response_sender())).start()

    def count(self, request, sender):
        for value in request.inputs()[0].as_numpy():
            while value < 0 and not request.is_cancelled():
                threading.Event().wait(0.001)
            out = pb_utils.Tensor("OUT", np.array([value], np.int32))
            sender.send(pb_utils.InferenceResponse([out]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
COUNT_CONFIG = """
backend: "python"
model_transaction_policy { decoupled: true }
input [{ name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }]
output [{ name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }]
"""

TWICE_CONFIG = """
platform: "ensemble"
max_batch_size: 4
input [{ name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }]
output [{ name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }]
ensemble_scheduling { step [
  { model_name: "double" model_version: -1
    input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "between" } },
  { model_name: "double" model_version: -1
    input_map { key: "IN" value: "between" } output_map { key: "OUT" value: "OUT" } }
] }
"""


class House:
    """A repository on disk with models that can be asked, and the calls of its models."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.write("double", DOUBLE, DOUBLE_CONFIG)
        self.write("count", COUNT, COUNT_CONFIG)
        self.write("twice", "", TWICE_CONFIG)

    def write(self, name: str, source: str, config: str) -> None:
        """Write a model."""
        (self.directory / name / "1").mkdir(parents=True)
        (self.directory / name / "1" / "model.py").write_text(source)
        (self.directory / name / "config.pbtxt").write_text(config)

    def write_telling(self, name: str, tell: str, config: str = TELLING_CONFIG) -> None:
        """Write a model that tells what this body of a function returns."""
        self.write(name, TELLING + textwrap.indent(textwrap.dedent(tell), " " * 8), config)

    async def open(
        self,
        *,
        explicit: bool = True,
        names: Sequence[str] | None = None,
        options: LoadOptions | None = None,
    ) -> None:
        """Load the models named, or all."""
        self.calls = Calls(explicit=explicit)
        catalog = Catalog(house=self.calls)
        self.repository = await self._stack.enter_async_context(
            Repository([self.directory], catalog, options or LoadOptions())
        )
        await self._stack.enter_async_context(self.calls.carry(self.repository.find))
        failed = await self.repository.load_at_start(names)
        assert not failed, self.repository.index()
        self.calls.allow_control(self.repository.load, self.repository.unload)

    async def ask(self, name: str = "caller") -> Any:  # noqa: ANN401 - what a model tells
        """Ask a model that tells something, and return what it tells."""
        reply = OneReply()
        self.repository.find(name).infer(Request(name), reply)
        return _told(await asyncio.wait_for(reply, 20))

    async def tell(self, body: str) -> Any:  # noqa: ANN401 - what a model tells
        """Load all models, with one called `caller` that tells what this body returns; return that."""
        self.write_telling("caller", body)
        await self.open()
        return await self.ask()


def _told(response: Response) -> Any:  # noqa: ANN401 - what a model tells
    return json.loads(response.outputs["TOLD"].numpy()[0])


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds; fails when that takes too long."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for happens on other threads
            await asyncio.sleep(0.001)
