"""A model version whose responses are cached: it stands before the version itself and looks there first.

A request is checked, then its key is looked up. What is found is the answer, and the model hears nothing of
it. What is not found goes to the model, and the answer is kept on its way back. Requests that ask the same
while the first of them is on its way wait for its answer (see `flights`), if they may wait as long and are as
urgent; should that one fail, each of them goes its own way, and should it be cancelled, the next one leads.

The key covers the load of the model (its `edition`), every input with name, datatype, shape and elements, and
the outputs that are wanted. It does not cover parameters: as in Triton, whoever turns the cache on for a
model says that its outputs follow from its inputs alone. Requests of sequences pass by.

A reply never comes before `infer` has returned, also where the answer is there at once.
"""

import asyncio
import hashlib
import mmap
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from ..proto.admission import Admission
from ..proto.config import ModelConfig
from ..proto.errors import Fault, InferError
from ..proto.message import Request, Response
from ..proto.stored_outputs import StoredOutputs, stored_size
from ..proto.tensor import Tensor
from .cache import Key, Store
from .clock import Nanoseconds, now
from .flights import Flight, Flights
from .leases import Leases
from .ordering import Line
from .reply import Reply
from .schedule import Job
from .schedules import is_ordered
from .servable import Loaded, Rearrangeable
from .statistics import Statistics

log: Final = structlog.get_logger("deuteron.cache")


def key_of(edition: bytes, request: Request) -> Key:
    """Return what two requests to one load of a model have in common that must have the same answer."""
    digest = hashlib.sha256(edition)
    inputs = request.inputs
    for name in sorted(inputs):
        tensor = inputs[name]
        raw = tensor.raw
        digest.update(f"{len(name)}:{name}{tensor.datatype.value}{tensor.shape}{len(raw)};".encode())
        digest.update(raw)
    for name in sorted(request.requested_outputs):
        digest.update(f"{len(name)}:{name}".encode())
    return digest.digest()


def own_inputs(request: Request) -> None:
    """Copy inputs that lie in shared memory, lest a client change them between key and execution."""
    for name, tensor in request.inputs.items():
        raw = tensor.raw
        if isinstance(raw, memoryview) and isinstance(raw.obj, mmap.mmap):
            request.inputs[name] = Tensor(tensor.datatype, tensor.shape, bytes(raw))


class CachedVersion:
    """A version of a model or an ensemble behind the response cache."""

    __slots__ = (
        "_flights",
        "_line",
        "_loop",
        "_model",
        "_outputs",
        "_store",
        "_told",
        "admission",
        "config",
        "edition",
        "labels",
        "leases",
        "name",
        "statistics",
        "version",
    )

    def __init__(self, model: Loaded, store: Store) -> None:
        self.name = model.name
        self.version = model.version
        self.config: ModelConfig = model.config
        self.admission: Admission = model.admission
        self.labels: Mapping[str, Sequence[str]] = model.labels
        self.statistics: Statistics = model.statistics
        self.leases: Leases = model.leases
        self.edition = model.edition
        self._model = model
        self._outputs = {spec.name: spec.datatype for spec in model.config.outputs}
        self._store = store
        self._flights = Flights()
        self._line = Line() if is_ordered(model.config) else None
        self._loop = asyncio.get_running_loop()
        self._told = False

    def __repr__(self) -> str:
        return f"CachedVersion({self._model!r}, {len(self._flights)} wait for an answer)"

    def infer(self, request: Request, reply: Reply) -> Job:
        """Check a request, and answer it from the cache or by the model; raises InferError if it is wrong."""
        self.admission.check(request)
        job = Job(request, reply, now())
        self.take(job)
        return job

    def take(self, job: Job) -> None:
        """Answer a request that was checked; a refusal of the model comes as an answer too."""
        if self._line is not None:
            job.reply = self._line.reserve(job.reply)
        job.queued = job.arrived
        request = job.request
        key = self._key(request)
        self._hold()
        if key is None or self._flights.full:
            self._send_on(job)
            return
        flight = self._flights.board((key, request.priority, request.timeout_us), job)
        if flight is not None:
            began = now()
            self._store.lookup(key, lambda stored: self._looked_up(flight, now() - began, stored))

    def cancel(self, request: Request) -> None:
        """Forget a request that follows another; any other is told to the model."""
        request.cancel()
        job = self._flights.withdraw(request)
        if job is None:
            self._model.cancel(request)
        else:
            self._give_up(job)

    @property
    def busy(self) -> bool:
        """Whether a request waits for the cache, for another request or for the model."""
        return bool(len(self._flights)) or self._model.busy

    @property
    def pending(self) -> int:
        """Requests that do not execute yet, here and with the model."""
        return self._model.pending

    async def is_ready(self) -> bool:
        """Tell what the model says."""
        return await self._model.is_ready()

    def drain(self) -> None:
        """Refuse what comes when nobody holds this version any more; whoever waits here holds it."""
        self._model.drain()

    async def serve(self) -> None:
        """Serve as long as the model does."""
        await self._model.serve()

    async def rearrange(self, config: ModelConfig) -> None:
        """Have the model change its instances; an ensemble has none."""
        assert isinstance(self._model, Rearrangeable), "only models have instances to change"
        await self._model.rearrange(config)
        self.config = config

    # --- the way of a request ---

    def _key(self, request: Request) -> Key | None:
        """Return the key of a request, None for one that passes by."""
        if request.correlation is not None:
            return None
        try:
            own_inputs(request)
            return key_of(self.edition, request)
        except Exception as error:  # noqa: BLE001 - a model's odd strings: whoever reads them is told
            log.debug("request has no key", model=self.name, reason=str(error))
            return None

    def _looked_up(self, flight: Flight, took: Nanoseconds, stored: StoredOutputs | None) -> None:
        if stored is None or not self._could_have_said(stored):
            flight.lookup_ns = took
            self._depart(flight)
            return
        followers = self._flights.land(flight)
        for job in (flight.leader, *followers):
            self._hit(job, stored.restored(), took)

    def _could_have_said(self, stored: StoredOutputs) -> bool:
        """Whether these are outputs of the model; others may write to a store that is shared."""
        outputs = self._outputs
        return bool(stored.tensors) and all(
            outputs.get(each.name) is each.datatype for each in stored.tensors
        )

    def _depart(self, flight: Flight) -> None:
        """Send the first of a flight that was not cancelled to the model."""
        while flight.leader.request.cancelled:
            self._give_up(flight.leader)
            if not self._flights.pass_on(flight):
                return
        job = flight.leader
        job.reply = _Insertion(self, flight, job.reply)
        self._send_on(job)

    def _send_on(self, job: Job) -> None:
        try:
            self._model.take(job)
        except InferError as error:
            self._answer(job, Response(error=error))
        finally:
            self._let_go()

    def returned(self, flight: Flight, response: Response | None) -> None:
        """Hear how the model answered the leader of a flight; None where it had not one thing to say."""
        fault = response.error.fault if response is not None and response.error is not None else None
        if fault is Fault.CANCELLED and self._flights.pass_on(flight):
            self._depart(flight)
            return
        followers = self._flights.land(flight)
        if response is None or fault is not None:
            for job in followers:
                self._depart(Flight(flight.key, job))
            return
        self._keep(flight, response.outputs)
        for job in followers:
            self._hit(job, dict(response.outputs), 0)

    def _keep(self, flight: Flight, outputs: Mapping[str, Tensor]) -> None:
        began = now()
        key = flight.key[0]
        try:
            size = stored_size(outputs)
            if size <= self._store.largest:
                self._store.insert(key, StoredOutputs.of(outputs), size)
            elif not self._told:
                self._told = True
                reason = (
                    f"Requested byte_size: {size} is greater than total cache size: {self._store.largest}"
                )
                log.warning(
                    "Failed to insert key into response cache", model=self.name, key=key.hex(), reason=reason
                )
        except Exception as error:  # noqa: BLE001 - a model's odd strings: whoever reads the response is told
            log.debug("response cannot be cached", model=self.name, reason=str(error))
        self.statistics.missed_cache(flight.lookup_ns + now() - began)

    def _hit(self, job: Job, outputs: dict[str, Tensor], lookup: Nanoseconds) -> None:
        if job.request.cancelled:
            self._give_up(job)
            return
        moment = now()
        self.statistics.served_from_cache(moment - job.queued - lookup, moment - job.arrived, lookup)
        self._answer(job, Response(outputs))
        self._let_go()

    def _give_up(self, job: Job) -> None:
        self.statistics.failed(now() - job.arrived, "CANCELED")
        self._answer(job, Response(error=InferError(Fault.CANCELLED, "")))
        self._let_go()

    def _answer(self, job: Job, response: Response) -> None:
        job.answered = True
        self._loop.call_soon(job.reply.send, response)

    # --- whoever waits here is pending, and keeps the version from draining ---

    def _hold(self) -> None:
        self.leases.take()
        self.statistics.pending += 1

    def _let_go(self) -> None:
        self.statistics.pending -= 1
        self.leases.give_back()


class _Insertion:
    """The reply of a request that leads: it passes everything on, and tells how the request was answered."""

    __slots__ = ("_flight", "_reply", "_response", "_responses", "_version")

    def __init__(self, version: CachedVersion, flight: Flight, reply: Reply) -> None:
        self._version = version
        self._flight = flight
        self._reply = reply
        self._response: Response | None = None
        self._responses = 0

    def send(self, response: Response) -> None:
        """Take a response; with the final one the flight has its answer."""
        if not response.silent:
            self._response = response
            self._responses += 1
        if response.final:
            self._version.returned(self._flight, self._response if self._responses == 1 else None)
        self._reply.send(response)
