"""From argv and the environment to `Settings`: getopt's rules for reading, the table of options for meaning.

Reading follows `getopt_long`, which Triton uses: `--name=value` or `--name value`, any unambiguous beginning
of a name, the last of several wins unless an option may repeat. What an option stands for is told by its row
in `options`; what several options mean together is told here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import reduce
from itertools import combinations
from operator import or_
from pathlib import Path
from typing import Any, Final

from ..proto.trace_level import TraceLevel
from .cache_options import cache_settings
from .listening import UNIX, ListenAt
from .option import Option, Presence, default_of
from .options import OPTIONS
from .policy import Policy, policy_of
from .sequence_store_url import with_credentials
from .settings import (
    CacheSettings,
    ControlMode,
    Settings,
    SpanSettings,
    TlsSettings,
    TraceMode,
    TraceSettings,
)
from .values import FLAG, OptionError, read_positive, read_repository

ALL_MODELS: Final = "*"
SIZE_OF_CACHE: Final = "response-cache-byte-size"
GRPC_KEY_PREFIX: Final = "triton-grpc-protocol-"
"""What comes before the key of a restricted protocol in the metadata of a call."""

Given = dict[str, list[Any]]
"""The values given for each option, in the order they came."""


def read_settings(
    arguments: Sequence[str], environment: Mapping[str, str], *, needs_repository: bool = True
) -> Settings:
    """Return the settings of a command line without its program name; raises `OptionError`."""
    given = _read(arguments)
    settings = _settle(given, environment)
    if needs_repository and not settings.repository.paths:
        raise OptionError("--model-repository must be specified")
    _check(settings)
    return settings


def _read(arguments: Sequence[str]) -> Given:
    given: Given = {}
    for option, text in _spelt(arguments):
        try:
            value = True if option.kind is FLAG and text is None else option.kind.read(text or "")
            _refuse_absent(option, value)
        except OptionError as error:
            raise OptionError(f'Bad option: "--{option.name}".\n{error}') from None
        given.setdefault(option.name, []).append(value)
    return given


def _spelt(arguments: Sequence[str]) -> Iterator[tuple[Option, str | None]]:
    """Yield each option with the text of its value; None where it has none."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("--") or word == "--":
            raise OptionError(f"Unexpected argument: {word}")
        name, equals, text = word[2:].partition("=")
        option = _find(name)
        if equals:
            yield option, text
        elif option.kind is FLAG:
            yield option, None
        else:
            value = next(words, None)
            if value is None:
                raise OptionError(f"option '--{option.name}' requires an argument")
            yield option, value


def _find(name: str) -> Option:
    exact = OPTIONS.get(name)
    if exact is not None:
        return exact
    candidates = [option for option in OPTIONS.values() if name and option.name.startswith(name)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        possibilities = " ".join(f"'--{option.name}'" for option in candidates)
        raise OptionError(f"option '--{name}' is ambiguous; possibilities: {possibilities}")
    alike = get_close_matches(name.replace("_", "-"), OPTIONS, n=1)
    raise OptionError(
        f"unrecognized option '--{name}'" + (f"; did you mean '--{alike[0]}'?" if alike else "")
    )


def _refuse_absent(option: Option, value: object) -> None:
    if option.presence is Presence.ABSENT and (option.default is None or value != option.default):
        raise OptionError(f"--{option.name} is not available in this version of deuteron")


def _settle(given: Given, environment: Mapping[str, str]) -> Settings:
    """Put what was given in its place, and work out what follows from several options together."""
    settings = _place(given)
    strict = _last(given, "disable-auto-complete-config") or _last(given, "strict-model-config")
    repository = replace(settings.repository, auto_complete=not strict)
    if not repository.paths and (uri := environment.get("AIP_STORAGE_URI")):
        repository = replace(repository, paths=(read_repository(uri),))
    metrics_config: dict[str, Any] = dict(given.get("metrics-config", []))
    metrics = replace(
        settings.metrics,
        address=settings.metrics.address or _beside(settings.http.address),
        **metrics_config,
    )
    grpc_tls = replace(settings.grpc_tls, enabled=settings.grpc_tls.enabled or settings.grpc_tls.mutual)
    trace = _trace(given, environment)
    backends: dict[str, dict[str, str]] = {}
    for backend, setting, value in given.get("backend-config", []):
        backends.setdefault(backend, {})[setting] = value
    return replace(
        settings,
        cache=_cache(given, environment),
        sequence_store=with_credentials(settings.sequence_store, environment),
        trace=trace,
        repository=repository,
        http=replace(settings.http, policy=_policy(given, "http-restricted-api", "api")),
        grpc=replace(
            settings.grpc, policy=_policy(given, "grpc-restricted-protocol", "protocol", GRPC_KEY_PREFIX)
        ),
        grpc_tls=grpc_tls,
        metrics=metrics,
        backends=backends,
        remarks=tuple(_remarks(given, trace)),
    )


def _beside(address: str) -> str:
    """Return where metrics are told when nobody says: where HTTP is, or at home where that is a path."""
    return "127.0.0.1" if address.startswith(UNIX) else address


def _policy(given: Given, option: str, what: str, prefix: str = "") -> Policy:
    """Return the policy of one door."""
    try:
        return policy_of(given.get(option, []), prefix)
    except ValueError as error:
        raise OptionError(
            f"restricted {what} '{error}' can not be specified in multiple config groups"
        ) from None


_DEPRECATED_TRACE: Final = {
    "trace-file": "file",
    "trace-level": "level",
    "trace-rate": "rate",
    "trace-count": "count",
    "trace-log-frequency": "log_frequency",
}
"""Options of their own that say what a setting of --trace-config says too."""


_SPAN_DEFAULTS: Final = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "bsp_max_queue_size",
    "OTEL_BSP_SCHEDULE_DELAY": "bsp_schedule_delay",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "bsp_max_export_batch_size",
}
"""Variables of the environment that say what the command line does not."""


def _trace(given: Given, environment: Mapping[str, str]) -> TraceSettings:
    """Return what the options about traces come to; levels add up, unless one of them is OFF."""
    pairs = [(field, value) for name, field in _DEPRECATED_TRACE.items() for value in given.get(name, [])]
    pairs += given.get("trace-config", [])
    settings: dict[str, Any] = dict(pairs)
    spans = {each.name: settings.pop(each.name) for each in fields(SpanSettings) if each.name in settings}
    if "resource" in spans:
        spans["resource"] = tuple(value for field, value in pairs if field == "resource")
    for variable, field in _SPAN_DEFAULTS.items():
        if variable in environment and field not in spans:
            spans[field] = _of_environment(variable, environment[variable])
    settings["spans"] = SpanSettings(**spans)
    levels = [value for field, value in pairs if field == "level"]
    if levels:
        off = TraceLevel.OFF in levels
        settings["level"] = TraceLevel.OFF if off else reduce(or_, levels)
    return TraceSettings(**settings)


def _of_environment(variable: str, text: str) -> int:
    try:
        return read_positive(variable, text)
    except OptionError as error:
        raise OptionError(f'Bad option: "{variable}".\n{error}') from None


def _cache(given: Given, environment: Mapping[str, str]) -> CacheSettings | None:
    """Return the cache that is asked for, in the one way or the other."""
    size = _last(given, SIZE_OF_CACHE)
    if not size:
        return cache_settings(given.get("cache-config", ()), environment)
    if "cache-config" in given:
        raise OptionError(
            f"Error: Incompatible flags --{SIZE_OF_CACHE} and --cache-config both provided. Please provide "
            "one or the other."
        )
    return cache_settings([("local", "size", str(size))], environment)


def _place(given: Given) -> Settings:
    """Return settings with every served option that has one place of its own in it."""
    places: dict[str, Any] = {}
    for name, values in given.items():
        option = OPTIONS[name]
        if not option.place:
            continue
        if option.repeatable:
            places[option.place] = tuple(sorted({*places.get(option.place, ()), *values}))
        else:
            places[option.place] = values[-1]
    sections: dict[str, dict[str, Any]] = {}
    for place, value in places.items():
        section, _, field = place.rpartition(".")
        sections.setdefault(section, {})[field] = value
    settings = Settings(**sections.pop("", {}))
    return replace(
        settings, **{name: replace(getattr(settings, name), **changes) for name, changes in sections.items()}
    )


def _last(given: Given, name: str) -> object:
    values = given.get(name)
    return values[-1] if values else default_of(OPTIONS[name])


def _remarks(given: Given, trace: TraceSettings) -> Iterator[str]:
    for name in given:
        if OPTIONS[name].presence is Presence.INERT:
            yield f"--{name} has no effect here"
    if "strict-model-config" in given:
        yield "--strict-model-config is deprecated, use --disable-auto-complete-config"
    if "rate-limit-resource" in given and not _last(given, "rate-limit"):
        yield "--rate-limit-resource has no effect without --rate-limit=execution_count"
    if SIZE_OF_CACHE in given:
        yield f"--{SIZE_OF_CACHE} is deprecated, use --cache-config local,size=<bytes>"
    for name in _DEPRECATED_TRACE:
        if name in given:
            yield f"--{name} is deprecated, use --trace-config"
    if trace.level & TraceLevel.TENSORS and trace.mode is TraceMode.OPENTELEMETRY:
        yield "tensors are not traced in the mode opentelemetry"
    if trace.level is not TraceLevel.OFF and trace.mode is TraceMode.TRITON and trace.file is None:
        yield "nothing is traced without --trace-config triton,file=<path>"


def _check(settings: Settings) -> None:
    """Raise `OptionError` for settings that cannot hold together."""
    repository = settings.repository
    for path in repository.paths if settings.exit_on_error else ():
        if isinstance(path, Path) and not path.is_dir():
            raise OptionError(f"--model-repository: repository path is not a valid directory: {path}")
    models = repository.startup_models
    if models and repository.control_mode is not ControlMode.EXPLICIT:
        raise OptionError(
            "Error: Use of '--load-model' requires setting '--model-control-mode=explicit' as well."
        )
    if ALL_MODELS in models and len(models) > 1:
        raise OptionError("Wildcard model name '*' must be the ONLY startup model if specified at all.")
    _check_tls("http-use-ssl", "http", settings.http_tls)
    _check_tls("grpc-use-ssl", "grpc", settings.grpc_tls)
    if settings.grpc_tls.mutual and settings.grpc_tls.root is None:
        raise OptionError("--grpc-use-ssl-mutual needs --grpc-root-cert")
    services = (("HTTP", settings.http), ("GRPC", settings.grpc), ("metrics", settings.metrics))
    places = [(name, ListenAt(it.address, it.port)) for name, it in services if it.enabled]
    sockets = [(name, at.named(at.port)) for name, at in places if at.path or at.port]
    for (first, socket), (second, other) in combinations(sockets, 2):
        if socket == other:
            raise OptionError(
                f"The server cannot listen to {first} requests and {second} requests at the same address and "
                f"port {socket}"
            )


def _check_tls(option: str, door: str, tls: TlsSettings) -> None:
    if tls.enabled and (tls.certificate is None or tls.key is None):
        raise OptionError(f"--{option} needs --{door}-server-cert and --{door}-server-key")
