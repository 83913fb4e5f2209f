"""The checker: goes through repositories as a load would, as far as that goes without running a model.

Each model is read, completed from its files, validated, and held against what lies beside its
configuration: the versions, their model files, labels, warm-up data, golden cases. Ensembles are held against
the models they are made of. Code of a model is compiled and not run; what only running it could tell is not
found here.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ...actors.dependents import find_circle, resolve
from ...backends.api import ModelFiles
from ...backends.artifact import find_artifact
from ...backends.catalog import Catalog
from ...backends.model_directory import Listing, list_repositories
from ...backends.model_home import ModelHome
from ...backends.selftest import golden_cases
from ...backends.warmup import warmup_batches
from ...proto.config import (
    ENSEMBLE,
    ConfigError,
    Draft,
    ModelConfig,
    check_ensemble_wiring,
    completed,
    validated,
)
from ...proto.config.platforms import default_filename
from ...proto.errors import Fault, InferError
from ...proto.model_id import ModelId
from .finding import Finding, Severity, findings_of

PYTHON: Final = "python"


class Checker:
    """Looks at all models of some repositories."""

    def __init__(
        self, repositories: Iterable[Path], *, config_name: str = "", auto_complete: bool = True
    ) -> None:
        """List the models; raises InferError for a repository that is no directory."""
        self._listing: Listing = list_repositories(repositories)
        self._config_name = config_name
        self._auto_complete = auto_complete
        self._catalog = Catalog()
        self._configs: dict[ModelId, ModelConfig] = {}
        self._drafts: dict[ModelId, Draft] = {}

    @property
    def models(self) -> list[ModelId]:
        """All models there are, by name."""
        return sorted(self._listing.found, key=str)

    def check(self) -> Iterator[Finding]:
        """Yield everything that is wrong, model by model, the ensembles last."""
        for id_ in sorted(self._listing.ambiguous, key=str):
            yield Finding(
                id_.name,
                Severity.ERROR,
                f"model '{id_.name}' stands in several repositories, and none of them is served",
                fix="rename all but one, or serve with --model-namespacing=true",
            )
        for id_ in self.models:
            yield from self._check_model(id_, self._listing.found[id_])
        for id_ in self.models:
            if id_ in self._configs and self._configs[id_].platform == ENSEMBLE:
                yield from self._check_ensemble(id_)

    def _check_model(self, id_: ModelId, home: ModelHome) -> Iterator[Finding]:
        try:
            draft = home.draft(self._config_name, required=not self._auto_complete)
            versions = home.fingerprints().versions
        except (InferError, OSError) as error:
            yield from findings_of(id_.name, _told(error))
            return
        if not versions:
            yield Finding(
                id_.name,
                Severity.ERROR,
                f"model '{id_.name}' has no version",
                str(home.path),
                fix="put the model's files into a directory named 1; an ensemble needs an empty one",
            )
            return
        self._drafts[id_] = draft
        config = None
        try:
            draft = self._completed(draft, ModelFiles(home.path, min(versions)))
            config = validated(draft)
        except InferError as error:
            severity = Severity.WARNING if error.fault is Fault.UNAVAILABLE else Severity.ERROR
            for each in findings_of(id_.name, error):
                yield Finding(id_.name, severity, each.message, each.file, each.line, each.column, each.fix)
        if config is None:
            return
        self._configs[id_] = config
        for version in config.version_policy.select(versions):
            yield from self._check_file(config, ModelFiles(home.path, version))
        yield from self._check_beside(config, home)

    def _completed(self, draft: Draft, files: ModelFiles) -> Draft:
        """Return what the files of a model make of its configuration, where that takes no code of its own."""
        backend = draft.message.backend
        if draft.message.platform == ENSEMBLE:
            return draft
        found = self._catalog.find(backend)
        if not self._auto_complete or backend == PYTHON:
            return draft
        return completed(draft, found.complete(draft.message, files))

    def _check_file(self, config: ModelConfig, files: ModelFiles) -> Iterator[Finding]:
        """Look whether a version has its model file, and Python code is Python."""
        filename = config.default_model_filename or default_filename(config.backend)
        if not filename:
            return
        try:
            path = find_artifact(files, filename, config.name)
            if config.backend == PYTHON:
                compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except InferError as error:
            yield from findings_of(config.name, error)
        except SyntaxError as error:
            yield Finding(
                config.name,
                Severity.ERROR,
                f"not Python: {error.msg}",
                str(error.filename),
                error.lineno or 0,
                error.offset or 0,
            )
        except (OSError, ValueError) as error:
            yield Finding(config.name, Severity.ERROR, f"the model file cannot be read: {error}")

    def _check_beside(self, config: ModelConfig, home: ModelHome) -> Iterator[Finding]:
        """Look at the files that a configuration names, and those that stand for themselves."""
        for read in (
            lambda: home.labels(config),
            lambda: warmup_batches(config, home.path),
            lambda: golden_cases(home.path),
        ):
            try:
                read()
            except InferError as error:
                yield from findings_of(config.name, error)

    def _says_by_code(self, config: ModelConfig) -> bool:
        """Whether what a model takes and gives is not known before its code has run."""
        return self._auto_complete and config.backend == PYTHON and not (config.inputs and config.outputs)

    def _check_ensemble(self, id_: ModelId) -> Iterator[Finding]:
        ensembles = {
            each: tuple(resolve(_steps_of(config), each.namespace, self._listing.found.keys()).values())
            for each, config in self._configs.items()
            if config.platform == ENSEMBLE
        }
        circle = find_circle(ensembles, id_)
        if circle:
            way = " → ".join(each.name for each in circle)
            yield Finding(id_.name, Severity.ERROR, f"ensemble '{id_.name}' leads to itself: {way}")
            return
        meant = resolve(_steps_of(self._configs[id_]), id_.namespace, self._listing.found.keys())
        for name in _steps_of(self._configs[id_]):
            if name not in meant:
                yield Finding(
                    id_.name,
                    Severity.ERROR,
                    f"ensemble '{id_.name}' has a step '{name}', and there is no such model",
                    fix="correct `model_name`, or check all repositories that are served together",
                )
            elif meant[name] not in self._configs or self._says_by_code(self._configs[meant[name]]):
                reason = (
                    "has faults itself" if meant[name] not in self._configs else "says by code what it takes"
                )
                yield Finding(
                    id_.name,
                    Severity.WARNING,
                    f"ensemble '{id_.name}' was not held against its step '{name}', which {reason}",
                )
                meant.pop(name)
        if len(meant) == len(_steps_of(self._configs[id_])):
            try:
                check_ensemble_wiring(
                    self._configs[id_], {name: self._configs[each] for name, each in meant.items()}
                )
            except ConfigError as error:
                yield from findings_of(id_.name, self._drafts[id_].places.located(error.complaints))


def _steps_of(config: ModelConfig) -> tuple[str, ...]:
    steps = config.ensemble.steps if config.ensemble is not None else ()
    return tuple(dict.fromkeys(step.model_name for step in steps))


def _told(error: InferError | OSError) -> InferError:
    return error if isinstance(error, InferError) else InferError(Fault.INTERNAL, f"cannot be read: {error}")
