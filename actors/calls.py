"""Calls: what models ask of the house while they are served, carried from their threads to the loop and back.

A model that asks another is a client like any other: the version is looked up when the request comes, which
is then admitted, queued and counted as any request is. What is particular is the way: the request crosses to
the loop, and its responses are handed over there, to be taken to whatever thread waits.

A model with several instances may well ask itself. Only a call with which all instances of some models wait
for each other is failed, since nobody would ever answer it (see `deadlock`); models that wait for each other
through an ensemble are not noticed. And in the end all must end. So when the server is told to stop, calls
whose callers wait for each other in a circle are failed, lest the drain wait for them too; all others are
served to the end.

Texts are those of Triton's python backend (`request_executor.cc`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from ..backends.house import Asker, Receive, Withdraw
from ..backends.private_directory import Override
from ..proto.errors import Fault, InferError, internal
from ..proto.message import Request, Response
from .clock import now
from .deadlock import deadlocked
from .reply import EarlyReply
from .schedule import Job
from .servable import Find, Seated, Servable
from .tracing import trace_job, trace_responses

Wish = Coroutine[Any, Any, None]
_Version = tuple[str, str]
"""Name and version of a model."""


class Load(Protocol):
    """Loads a model; raises InferError."""

    def __call__(self, name: str, override: Override, *, from_load: bool) -> Wish:
        """Load by name, for one that is being loaded itself or for one that serves."""


class Unload(Protocol):
    """Begins to unload a model; raises InferError."""

    def __call__(self, name: str, *, dependents: bool) -> Wish:
        """Unload by name."""


class Calls:
    """The house, as models see it: a `House` whose calls end on the event loop."""

    __slots__ = ("_control", "_explicit", "_find", "_loads", "_loop", "_pending", "_stopping")

    _loop: asyncio.AbstractEventLoop | None
    """The loop of the house; None while nobody is home."""
    _find: Find

    def __init__(self, *, explicit: bool) -> None:
        """Begin with nobody home; `explicit` says whether models may be loaded and unloaded at all."""
        self._explicit = explicit
        self._loop = None
        self._pending: set[_Call] = set()
        self._stopping = False
        self._control: tuple[Load, Unload] | None = None
        self._loads: list[tuple[str, str]] = []
        """The models that wait, while they are being loaded, for the load of another, and for whom."""

    # --- what the house does, on its loop
    # ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def carry(self, find: Find) -> AsyncIterator[None]:
        """Carry calls to where `find` leads for the length of the block; fail those that outlive it."""
        self._loop = asyncio.get_running_loop()
        self._find = find
        try:
            yield
        finally:
            self._loop = None
            for call in list(self._pending):
                call.fail(_closed())

    def allow_control(self, load: Load, unload: Unload) -> None:
        """Let models load and unload others from now on: the server has started."""
        self._control = load, unload

    def stop(self) -> None:
        """Fail the calls that would keep the house from coming to an end, now and from now on."""
        self._stopping = True
        self._break_circles()

    # --- what models do, on threads of theirs
    # ---------------------------------------------------------------------------------------

    def ask(self, asker: Asker, request: Request, receive: Receive, *, decoupled: bool) -> Withdraw:
        """Send a request to another model and return at once; whatever goes wrong comes as a response."""
        call = _Call(self, asker, request, receive, decoupled=decoupled)
        if not self._cross(call.begin):
            receive(Response(error=_closed()))
        return call.withdraw

    def load(self, name: str, config: str, files: Mapping[str, bytes], *, waiting: str) -> None:
        """Load a model, or load it anew; raises InferError, also where a load would wait for itself."""
        if name == waiting:
            raise _waits_for_itself(name)
        load, _ = self._permitted_control()
        wish = load(name, Override(config or None, files), from_load=bool(waiting))
        self._fulfil(self._in_no_circle(waiting, name, wish) if waiting else wish)

    def unload(self, name: str, *, dependents: bool) -> None:
        """Begin to unload a model; raises InferError."""
        _, unload = self._permitted_control()
        self._fulfil(unload(name, dependents=dependents))

    def is_ready(self, name: str, version: int) -> bool:
        """Tell whether a version of a model takes requests."""
        if self._loop is None:
            raise _not_ready()
        try:
            self._find(name, version)
        except InferError:
            return False
        return True

    # --- how
    # ---------------------------------------------------------------------------------------------------

    def find(self, name: str, version: int) -> Servable:
        """Return the version a call leads to; raises InferError where there is none, or nobody is home."""
        if self._loop is None:
            raise _closed()
        try:
            return self._find(name, version)
        except InferError:
            raise internal(
                f"Failed for execute the inference request. Model '{name}' is not ready."
            ) from None

    def began(self, call: "_Call") -> None:
        """Know of a call that waits for an answer."""
        self._pending.add(call)
        if self._stopping:
            self._break_circles()
        elif any(each.asker.model == call.servable.name for each in self._pending):
            self._break_deadlock(call)

    def ended(self, call: "_Call") -> None:
        """Know that a call has its answer."""
        self._pending.discard(call)

    def withdraw(self, call: "_Call") -> None:
        """Have a call withdrawn on the loop."""
        self._cross(call.cancel)

    def _cross(self, function: Callable[[], None]) -> bool:
        """Have a function called on the loop; return whether that can be."""
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _permitted_control(self) -> tuple[Load, Unload]:
        """Return how models are loaded and unloaded; raises InferError where that is not allowed now."""
        if not self._explicit:
            raise InferError(
                Fault.UNAVAILABLE, "explicit model load / unload is not allowed if polling is enabled"
            )
        if self._control is None or self._stopping:
            raise _not_ready()
        return self._control

    def _fulfil(self, wish: Wish) -> None:
        """Run a coroutine on the loop and wait for it."""
        loop = self._loop
        if loop is None:
            wish.close()
            raise _not_ready()
        try:
            asyncio.run_coroutine_threadsafe(wish, loop).result()
        except CancelledError:
            raise _not_ready() from None

    async def _in_no_circle(self, waiting: str, name: str, wish: Wish) -> None:
        """Let the load of a model wait for that of another, which does not wait for the first."""
        waits_for: dict[str, set[str]] = {}
        for model, other in self._loads:
            waits_for.setdefault(model, set()).add(other)
        if waiting in _reached(waits_for, (name,)):
            wish.close()
            raise _waits_for_itself(waiting)
        self._loads.append((waiting, name))
        try:
            await wish
        finally:
            self._loads.remove((waiting, name))

    def _break_circles(self) -> None:
        waits_for: dict[str, set[str]] = {}
        for call in self._pending:
            waits_for.setdefault(call.asker.model, set()).update(self._names(call.servable))
        for call in list(self._pending):
            if call.asker.model in _reached(waits_for, self._names(call.servable)):
                call.fail(_in_circle(call))

    def _break_deadlock(self, latest: "_Call") -> None:
        """Fail a call if with it all instances of some models wait for each other."""
        waits_for: dict[Asker, set[_Version]] = {}
        instances: dict[_Version, set[Asker]] = {}
        for call in self._pending:
            model = call.servable
            key = model.name, str(model.version)
            waits_for.setdefault(call.asker, set()).add(key)
            if key not in instances and isinstance(model, Seated):
                instances[key] = {Asker(*key, instance) for instance in model.occupied}
        if (latest.servable.name, str(latest.servable.version)) in deadlocked(instances, waits_for):
            latest.fail(_in_deadlock(latest))

    def _names(self, servable: Servable) -> Iterator[str]:
        """Yield the names of all models that a request to this one may wait for, itself included."""
        yield servable.name
        ensemble = servable.config.ensemble
        for step in ensemble.steps if ensemble is not None else ():
            try:
                yield from self._names(self._find(step.model_name, step.model_version))
            except InferError:
                continue


class _Call(EarlyReply):
    """One request on its way: the address that the other model answers to."""

    __slots__ = (
        "_calls",
        "_decoupled",
        "_ended",
        "_is_told",
        "_job",
        "_receive",
        "_request",
        "_response",
        "asker",
        "servable",
    )

    servable: Servable

    def __init__(
        self, calls: Calls, asker: Asker, request: Request, receive: Receive, *, decoupled: bool
    ) -> None:
        self.asker = asker
        self._calls = calls
        self._request = request
        self._receive = receive
        self._decoupled = decoupled
        self._ended = False
        self._is_told = False
        """Whether the caller has its response, of which the loop still hears."""
        self._job: Job | None = None
        self._response: Response | None = None
        """The response of a model that sends one, until it closes the request."""

    def begin(self) -> None:
        """Hand the request to the model it asks; on the loop, as is all below."""
        name = self._request.model_name
        try:
            self.servable = self._calls.find(name, self._request.model_version)
            if self.servable.config.decoupled and not self._decoupled:
                raise internal(_DECOUPLED % name)
            self._begin_trace()
            self._job = self.servable.infer(self._request, self)
        except InferError as error:
            text = f"Model {name} - Error when running inference: {error.message}"
            self._end(Response(error=internal(text)))
        else:
            if not self._ended:
                self._calls.began(self)

    def send(self, response: Response) -> None:
        """Take a response of the other model."""
        if self._ended:
            return
        if self._request.trace is not None:
            trace_responses(self._request.trace, response)
        if self._decoupled:
            if response.final:
                self._end(response)
            else:
                self._receive(response)
            return
        if self._response is None or not response.silent:
            self._response = response
        if response.final:
            empty = self._response.silent
            self._end(Response(error=internal("Unexpected empty response.")) if empty else self._response)

    def send_early(self, response: Response) -> None:
        """Take the one response of the other model, on the thread that has made it."""
        if not self._decoupled:
            self._is_told = True
            self._receive(response)

    def fail(self, error: InferError) -> None:
        """End the call with an error, whatever the other model still says."""
        if not self._ended:
            self._end(Response(error=error))
            self.servable.cancel(self._request)

    def cancel(self) -> None:
        """Tell the other model that nobody waits."""
        if not self._ended:
            self.servable.cancel(self._request)

    def withdraw(self) -> None:
        """Have the call cancelled; from any thread."""
        self._calls.withdraw(self)

    def _end(self, response: Response) -> None:
        self._ended = True
        self._calls.ended(self)
        if self._job is not None and self._request.trace is not None:
            trace_job(self._request.trace, self._job, self.servable.name, self.servable.version, now())
        if not self._is_told:
            self._receive(response)

    def _begin_trace(self) -> None:
        """Hang a trace of its own on the request, below that of the request it is made for."""
        request = self._request
        if request.trace is not None:
            request.trace = request.trace.child()
            request.trace.show("TENSOR_QUEUE_INPUT", request.inputs)


def _reached(waits_for: Mapping[str, Iterable[str]], names: Iterable[str]) -> set[str]:
    """Return these models and all that they wait for."""
    reached: set[str] = set()
    ahead = list(names)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(waits_for.get(name, ()))
    return reached


def _in_circle(call: _Call) -> InferError:
    return InferError(
        Fault.UNAVAILABLE,
        f"the server is stopping, and model '{call.asker.model}' waits for itself through model "
        f"'{call.servable.name}'",
    )


def _in_deadlock(call: _Call) -> InferError:
    return InferError(
        Fault.UNAVAILABLE,
        f"all instances of model '{call.servable.name}' wait for each other, this one in model "
        f"'{call.asker.model}' included: it would never be served",
    )


def _waits_for_itself(name: str) -> InferError:
    return InferError(Fault.INVALID_ARG, f"'{name}' is being loaded, and would wait for itself")


def _closed() -> InferError:
    return InferError(Fault.UNAVAILABLE, "the server has ended, no model can be asked any more")


def _not_ready() -> InferError:
    return InferError(Fault.UNAVAILABLE, "Server not ready")


_DECOUPLED: Final = (
    "Model %s is using the decoupled. The current BLS request call doesn't support models using the "
    "decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or 'async_exec' calls "
    "for decoupled models.'"
)
