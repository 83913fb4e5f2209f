"""How a model comes to life: from its home to versions that can serve.

Everything that blocks happens on the lane that the first instance will use afterwards: reading the
configuration, completing it from the model's files, validating it, loading the files. Each further instance
is then seated on a lane of its own. Whatever fails, what was built until then is taken down again, and the
error says why.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from ..backends.api import Backend, ModelFiles, Plan
from ..backends.batch_strategy import load_strategy
from ..backends.catalog import Catalog
from ..backends.contents import digest_contents
from ..backends.durable_state import DurablePlan, can_endure
from ..backends.implicit_state import StatefulPlan, state_pairs, with_states
from ..backends.model_home import ModelHome
from ..backends.ragged import BACKENDS as RAGGED_BACKENDS
from ..backends.sequence_store import SequenceStore
from ..backends.warmup import WarmedPlan, warmup_batches
from ..proto.config import (
    ENSEMBLE,
    ConfigError,
    Draft,
    ModelConfig,
    check_ensemble_wiring,
    check_response_cache,
    completed,
    read_json_config,
    validated,
    with_transaction_policy,
)
from ..proto.errors import Fault, InferError
from ..proto.model_id import ModelId
from .batching import Joins
from .cache import Store
from .caching import CachedVersion
from .ensemble_version import EnsembleVersion
from .gate import gate_of, is_limited
from .instance_set import InstanceSet
from .lane import Lane
from .latencies import LatencyOptions, latencies_of
from .model import ModelVersion
from .residency import OnDemand
from .seating import plan_device
from .sequence_statistics import SequenceStatistics
from .servable import Loaded, Servable
from .sharing import Sharing
from .statistics import Statistics

CONFIG_OVERRIDE: Final = "Invalid config override"
"""Where complaints about a configuration that came with a request stand, in the words that Triton logs."""

log: Final = structlog.get_logger("deuteron.repository")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the operator decided about loading."""

    auto_complete: bool = True
    """Whether what a configuration leaves out is read from the model's files."""
    config_name: str = ""
    """Name of the configuration to prefer to `config.pbtxt`."""
    latencies: LatencyOptions = field(default_factory=LatencyOptions)
    timeout_s: float = 600.0
    """Seconds that one version may take to become ready; 0 is for ever."""
    threads: int = 4
    """Versions that load at the same time."""
    retries: int = 0
    """How often a version that cannot be loaded is tried again before that is told."""
    namespacing: bool = False
    """Whether equal names in two repositories are two models."""
    on_demand: OnDemand | None = None
    """Which models are loaded when they are asked for, if any."""
    cache: Store | None = None
    """Where responses are kept of models that allow it."""
    sharing: Sharing | None = None
    """What instances share that run only while there is enough of it; None where nothing is limited."""
    sequences: SequenceStore | None = None
    """Where the states of sequences are kept for other servers."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was read from the disk for one version."""

    config: ModelConfig
    labels: Mapping[str, Sequence[str]]
    plan: Plan | None
    """None for an ensemble, which has no files of its own."""
    edition: bytes
    """What the cache knows this version by, as far as its own files tell."""
    joins: Joins | None = None
    """The model's own rule about batches."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a version that is not loaded."""

    config: ModelConfig
    labels: Mapping[str, Sequence[str]]
    statistics: Statistics


Steps = Mapping[str, ModelId]
NO_STEPS: Final[Steps] = {}
FindExactly = Callable[[ModelId, int], Servable]
"""Looks up a version of just this model; raises InferError where there is none."""


class Loader:
    """Turns models at home into servable versions."""

    __slots__ = ("_catalog", "_find", "_options")

    def __init__(self, catalog: Catalog, options: LoadOptions, find: FindExactly) -> None:
        self._catalog = catalog
        self._options = options
        self._find = find

    def read(self, home: ModelHome, config: str | None = None) -> Draft:
        """Return the configuration of a model as far as its home tells it; blocks. Raises InferError.

        A `config` that came with the request, as JSON, stands for the one on disk.
        """
        if config is not None:
            return read_json_config(config, CONFIG_OVERRIDE, home.name, home.first_version_files())
        return home.draft(self._options.config_name, required=not self._options.auto_complete)

    async def describe(self, home: ModelHome, draft: Draft, version: int) -> Description:
        """Return what is known of a version before it is loaded; raises InferError."""
        lane = Lane(f"{home.name}_describe")
        try:
            _, config = await lane.call(self._completed, draft, ModelFiles(home.path, version))
            labels = await lane.call(home.labels, config)
        finally:
            lane.close()
        return Description(config, labels, self._statistics(config))

    async def load(
        self,
        home: ModelHome,
        draft: Draft,
        version: int,
        steps: Steps = NO_STEPS,
        statistics: Statistics | None = None,
    ) -> Loaded:
        """Return one version, ready to serve; raises InferError with the reason where it cannot be.

        `steps` are the models that an ensemble is made of, by the names it calls them. Statistics that are
        there already go on.
        """
        began = time.monotonic()
        lane = Lane(f"{home.name}_0")
        try:
            prepared = await lane.call(self._prepare, home, draft, version)
            if prepared.plan is None:
                lane.close()
                return self._ensemble(prepared, draft, version, steps)
            counted = statistics or self._statistics(prepared.config)
            model = await self._model(prepared, counted, version, lane)
        except (InferError, asyncio.CancelledError):
            lane.close()
            raise
        except Exception as error:
            lane.close()
            raise InferError(Fault.INTERNAL, f"{type(error).__name__}: {error}") from error
        model.statistics.load_seconds = time.monotonic() - began
        return self._behind_cache(model)

    async def _model(
        self, prepared: Prepared, statistics: Statistics, version: int, lane: Lane
    ) -> ModelVersion:
        """Return a model with all its instances seated, the first of them on a lane that is there already."""
        config = prepared.config
        assert prepared.plan is not None
        instances = InstanceSet(prepared.plan, statistics, gate_of(config, self._options.sharing))
        await _seat(instances, config, lane)
        model = ModelVersion(config, version, prepared.labels, instances, statistics, prepared.joins)
        model.edition = prepared.edition
        return model

    def rearranged(self, servable: Servable, draft: Draft) -> ModelConfig | None:
        """Return the configuration of a version with the instances that a draft asks for instead of its own.

        None where the draft asks for anything else that is different. Raises ConfigError for instances that
        nobody can have.
        """
        present = servable.config.message
        message = type(present)()
        message.CopyFrom(present)
        message.ClearField("instance_group")
        message.instance_group.extend(draft.message.instance_group)
        message.version_policy.CopyFrom(draft.message.version_policy)
        config = validated(replace(draft, message=message))
        is_as_before = plan_device(config) == plan_device(servable.config) and (
            is_limited(config) == is_limited(servable.config)
        )
        return config if is_as_before else None

    def _behind_cache(self, model: Loaded) -> Loaded:
        cache = self._options.cache
        return model if cache is None or not model.config.response_cache else CachedVersion(model, cache)

    def _ensemble(self, prepared: Prepared, draft: Draft, version: int, models: Steps) -> Loaded:
        """Return an ensemble that fits the models it is made of, as they are loaded now."""

        def find(name: str, version: int) -> Servable:
            return self._find(models[name], version)

        steps = prepared.config.ensemble.steps if prepared.config.ensemble is not None else ()
        configs = {step.model_name: find(step.model_name, step.model_version).config for step in steps}
        try:
            check_ensemble_wiring(prepared.config, configs)
        except ConfigError as error:
            raise draft.places.located(error.complaints) from None
        config = with_transaction_policy(prepared.config, configs)
        if config.decoupled and config.response_cache:
            raise draft.places.located(list(check_response_cache(config.message)))
        ensemble = EnsembleVersion(config, version, prepared.labels, self._statistics(config), find)
        editions = [find(step.model_name, step.model_version).edition for step in steps]
        ensemble.edition = hashlib.sha256(b"".join((prepared.edition, *editions))).digest()
        return self._behind_cache(ensemble)

    def _statistics(self, config: ModelConfig) -> Statistics:
        is_cached = self._options.cache is not None and config.response_cache
        return Statistics(
            streaming=config.decoupled,
            latencies=latencies_of(config, self._options.latencies, cached=is_cached),
            sequences=SequenceStatistics() if config.sequence_batching is not None else None,
        )

    def _prepare(self, home: ModelHome, draft: Draft, version: int) -> Prepared:
        """Read all that one version needs; on a lane."""
        files = ModelFiles(home.path, version)
        if draft.message.platform == ENSEMBLE:
            config = validated(draft)
            return Prepared(config, home.labels(config), None, self._edition(home, config, files))
        backend, config = self._completed(draft, files)
        samples = warmup_batches(config, home.path)
        edition = self._edition(home, config, files)
        joins = load_strategy(config, files, lambda reason: log.error(reason, model=config.name))
        plan = _stateful_plan(backend, config, files)
        if samples:
            plan = WarmedPlan(plan, samples)
        if self._options.sequences is not None:
            plan = _durable_plan(plan, self._options.sequences, config, version)
        return Prepared(config, home.labels(config), plan, edition, joins)

    def _completed(self, draft: Draft, files: ModelFiles) -> tuple[Backend, ModelConfig]:
        """Return the backend of a model, and its configuration as it is complete; on a lane."""
        backend = self._catalog.find(draft.message.backend)
        if self._options.auto_complete:
            draft = completed(draft, backend.complete(draft.message, files))
        config = validated(draft)
        _refuse_what_is_not_there(config)
        return backend, config

    def _edition(self, home: ModelHome, config: ModelConfig, files: ModelFiles) -> bytes:
        """Return what the cache is to know a version by: this load alone, unless other servers look too."""
        cache = self._options.cache
        is_the_same_elsewhere = cache is not None and cache.shared and home.on_disk
        return digest_contents(config, files) if is_the_same_elsewhere else os.urandom(16)


def _stateful_plan(backend: Backend, config: ModelConfig, files: ModelFiles) -> Plan:
    states = state_pairs(config, files.directory)
    if not states:
        return _plan(backend, config, files)
    return StatefulPlan(_plan(backend, with_states(config), files), states, config)


def _durable_plan(plan: Plan, store: SequenceStore, config: ModelConfig, version: int) -> Plan:
    if can_endure(config):
        return DurablePlan(plan, store, config, version)
    if config.sequence_batching is not None:
        log.warning(
            "sequences of this model are not kept in the sequence store: it has no implicit state, or is "
            "iterative or decoupled",
            model=config.name,
        )
    return plan


def _plan(backend: Backend, config: ModelConfig, files: ModelFiles) -> Plan:
    return backend.load(config, files, plan_device(config))


def _refuse_what_is_not_there(config: ModelConfig) -> None:
    """Raise InferError for what a configuration asks and this server cannot do, lest it be ignored."""
    can_be_ragged = config.backend in RAGGED_BACKENDS
    asked = {
        "batch_input": bool(config.message.batch_input) and not can_be_ragged,
        "batch_output": bool(config.message.batch_output) and not can_be_ragged,
        "model_repository_agents": bool(config.message.model_repository_agents.agents),
    }
    missing = [name for name, is_asked in asked.items() if is_asked]
    if missing:
        raise InferError(
            Fault.UNSUPPORTED,
            f"model '{config.name}' asks for {', '.join(missing)}, which this version does not offer",
        )


async def _seat(instances: InstanceSet, config: ModelConfig, lane: Lane) -> None:
    """Seat the instances of a model; raises the first error, and then none is left, nor what they share."""
    try:
        await instances.seat(config, lane)
    except Exception:
        try:
            await instances.close()
        except Exception:  # whoever asked must hear why it cannot be loaded, and not what followed from that
            log.exception("a model that cannot be loaded does not close", model=config.name)
        raise
