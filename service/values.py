"""How the text of an option's value is read, and what is said when it cannot be."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from ..backends.remote.address import Address, AddressError, is_remote, parse_address
from ..proto.trace_level import TraceLevel
from .header_pattern import compile_pattern
from .policy import Group
from .settings import Compression, ControlMode, GrpcEngine, HttpEngine, LogFormat, TraceMode

Word = TypeVar("Word", bound=Enum)

_TRUE: Final = frozenset({"true", "on", "1"})
_FALSE: Final = frozenset({"false", "off", "0"})
_INT64: Final = range(-(2**63), 2**63)
_PORTS: Final = range(65536)


class OptionError(ValueError):
    """A command line that cannot be obeyed; the message is made for whoever typed it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: what the help calls it, and how it is read."""

    metavar: str
    """What stands for the value in the help; empty for an option that takes none."""
    read: Callable[[str], object]


def read_bool(text: str) -> bool:
    """Return the truth that `true`, `on`, `1`, `false`, `off` or `0` spell, in any case."""
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise OptionError(f"invalid value for bool option: {text}")


def read_int(text: str) -> int:
    """Return a decimal integer of 64 bits."""
    digits = text[1:] if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise OptionError(f"Invalid option value. Got {text}")
    # Twenty digits are beyond 64 bits, and Python counts the digits of a number only up to a limit.
    if len(digits) > 19 or (number := int(text)) not in _INT64:  # noqa: PLR2004
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return number


def read_number(text: str) -> float:
    """Return a finite number."""
    try:
        number = float(text)
    except ValueError:
        raise OptionError(f"Invalid option value. Got {text}") from None
    if number - number != 0:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return number


def _read_text(text: str) -> str:
    return text


def _read_verbosity(text: str) -> int:
    lowered = text.lower()
    return int(lowered == "true") if lowered in ("true", "false") else max(0, read_int(text))


def _read_port(text: str) -> int:
    port = read_int(text)
    if port not in _PORTS:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return port


def _word_of(words: type[Word], complaint: str, *, folded: bool = True) -> Callable[[str], Word]:
    """Return what reads one of the words that are the values of an enumeration."""

    def read(text: str) -> Word:
        try:
            return words(text.lower() if folded else text)
        except ValueError:
            raise OptionError(complaint) from None

    return read


def read_positive(name: str, text: str) -> int:
    """Return an integer above zero; raises `OptionError` with the name of what it was read for."""
    number = read_int(text)
    if number <= 0:
        raise OptionError(f"Error: {name} must be greater than 0.")
    return number


def _positive(option: str) -> Callable[[str], int]:
    """Return what reads an integer above zero."""
    return partial(read_positive, f"--{option}")


def _read_config_name(text: str) -> str:
    if not text:
        raise OptionError("Error: empty argument for --model-config-name")
    if "/" in text or text in (".", ".."):
        raise OptionError(f"--model-config-name names a configuration, not a path. Got {text}")
    return text


def read_repository(text: str) -> Path | Address:
    """Return the path of a model repository on this machine, or the address of one elsewhere."""
    if not is_remote(text):
        return Path(text)
    try:
        return parse_address(text)
    except AddressError as error:
        raise OptionError(str(error)) from None


def _read_grpc_threads(text: str) -> int:
    count = read_int(text)
    if not 2 <= count <= 128:  # noqa: PLR2004 - the bounds are in the message
        raise OptionError("invalid argument for --grpc_infer_thread_count. Must be in the range 2 to 128.")
    return count


def _read_pattern(text: str) -> str:
    try:
        compile_pattern(text)
    except re.error as error:
        raise OptionError(f"{text!r} is no regular expression: {error}") from None
    return text


def _restriction(option: str, what: str) -> Callable[[str], tuple[tuple[Group, ...], str, str]]:
    """Return what reads groups, header and value of `groups:header=value`."""

    def read(text: str) -> tuple[tuple[Group, ...], str, str]:
        names, colon, assignment = text.partition(":")
        header, equals, value = assignment.partition("=")
        if not (colon and equals and header):
            raise OptionError(f"--{option} option format is '<config name>:<setting>=<value>'. Got {text}")
        return tuple(_read_group(name, what) for name in names.split(",")), header, value

    return read


def _read_group(name: str, what: str) -> Group:
    try:
        return Group(name)
    except ValueError:
        raise OptionError(f"unknown restricted {what} '{name}' ") from None


def _read_rate_limit(text: str) -> bool:
    mode = text.lower()
    if mode not in ("off", "execution_count"):
        raise OptionError("invalid argument for --rate-limit")
    return mode != "off"


def _read_rate_limit_resource(text: str) -> tuple[str, int, int]:
    """Return name, count and device of `name:count[:device]`; a device of -1 is each of them."""
    name, *numbers = text.split(":")
    if not name or len(numbers) not in (1, 2):
        raise OptionError(
            "--rate-limit-resource option format is '<resource_name>:<count>:<device>' or "
            f"'<resource_name>:<count>'. Got {text}"
        )
    count, device = (_read_unsigned(number) for number in (*numbers, "0")[:2])
    return name, count, device if len(numbers) > 1 else -1


def read_backend_config(text: str) -> tuple[str, str, str]:
    """Return backend, setting and value of `[backend,]setting=value`; no backend is an empty one."""
    name, comma, rest = text.partition(",")
    if comma and not name:
        raise OptionError(
            "No backend specified. --backend-config option format is <backend name>,<setting>=<value> or "
            f"<setting>=<value>. Got {text}"
        )
    backend, assignment = (name, rest) if comma else ("", text)
    setting, _, value = assignment.partition("=")
    if not setting or not value:
        raise OptionError(f"--backend-config option format is '<backend name>,<setting>=<value>'. Got {text}")
    return backend, setting, value


def read_metrics_config(text: str) -> tuple[str, bool | tuple[float, ...]]:
    """Return setting and value of a `setting=value` for the metrics."""
    setting, _, value = text.partition("=")
    if not setting or not value or "," in setting:
        raise OptionError(f"--metrics-config option format is <setting>=<value>. Got {text}")
    if setting in ("counter_latencies", "histogram_latencies", "summary_latencies"):
        return setting, read_bool(value)
    if setting == "summary_quantiles":
        return "quantiles", _read_quantiles(value)
    raise OptionError(f"--metrics-config knows no setting '{setting}'")


def _read_quantiles(text: str) -> tuple[float, ...]:
    """Return the quantiles of `quantile:error,...`; the error is that of an estimate, and ours are exact."""
    quantiles: list[float] = []
    for pair in text.split(","):
        quantile, colon, error = pair.partition(":")
        if not colon:
            raise OptionError(
                f"Invalid option: [{pair}]. No ':' delimiter found. Expected format is <quantile>:<error>"
            )
        _leading_number(error)
        quantiles.append(_leading_number(quantile))
        if not 0 <= quantiles[-1] <= 1:
            raise OptionError(f"Invalid option: [{pair}]. A quantile lies between 0 and 1")
    return tuple(dict.fromkeys(quantiles))


_LEADING_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _leading_number(text: str) -> float:
    """Return the number that a text begins with, as C reads one: Triton takes `0.0.1` for `0.0`."""
    found = _LEADING_NUMBER.match(text.strip())
    if found is None:
        raise OptionError(f"Invalid option: [{text}]. A number was expected")
    return float(found[0])


_LEVELS: Final = {
    **dict.fromkeys(("off", "false"), TraceLevel.OFF),
    **dict.fromkeys(("on", "true", "min", "max", "timestamps"), TraceLevel.TIMESTAMPS),
    "tensors": TraceLevel.TENSORS,
}


def _read_trace_level(text: str) -> TraceLevel:
    level = _LEVELS.get(text.lower())
    if level is None:
        raise OptionError(f"invalid value for trace level option: {text}")
    return level


def _read_trace_count(text: str) -> int:
    count = read_int(text)
    if count < -1:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return count


def _read_unsigned(text: str) -> int:
    number = read_int(text)
    if number < 0:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return number


def _read_trace_mode(text: str) -> TraceMode:
    try:
        return TraceMode(text.lower())
    except ValueError:
        raise OptionError(
            f'invalid value for trace mode option: {text}. Available options are "triton" and "opentelemetry"'
        ) from None


def _read_resource(text: str) -> str:
    key, equals, _ = text.partition("=")
    if not (key and equals):
        raise OptionError(f"a resource is told as <key>=<value>. Got {text}")
    return text


_TRACE_CONFIG: Final[Mapping[tuple[TraceMode | None, str], tuple[str, Callable[[str], object]]]] = {
    (None, "level"): ("level", _read_trace_level),
    (None, "rate"): ("rate", _read_unsigned),
    (None, "count"): ("count", _read_trace_count),
    (None, "mode"): ("mode", _read_trace_mode),
    (TraceMode.TRITON, "file"): ("file", Path),
    (TraceMode.TRITON, "log-frequency"): ("log_frequency", _read_unsigned),
    (TraceMode.OPENTELEMETRY, "url"): ("url", _read_text),
    (TraceMode.OPENTELEMETRY, "resource"): ("resource", _read_resource),
    (TraceMode.OPENTELEMETRY, "bsp_max_queue_size"): ("bsp_max_queue_size", _positive("bsp_max_queue_size")),
    (TraceMode.OPENTELEMETRY, "bsp_schedule_delay"): ("bsp_schedule_delay", _read_unsigned),
    (TraceMode.OPENTELEMETRY, "bsp_max_export_batch_size"): (
        "bsp_max_export_batch_size",
        _positive("bsp_max_export_batch_size"),
    ),
}


def read_trace_config(text: str) -> tuple[str, object]:
    """Return setting and value of `[mode,]setting=value` for traces."""
    mode, comma, rest = text.partition(",")
    if comma and not mode:
        raise OptionError(
            "No trace mode specified. --trace-config option format is <trace mode>,<setting>=<value> or "
            f"<setting>=<value>. Got {text}"
        )
    setting, _, value = (rest if comma else text).partition("=")
    if not setting or not value:
        raise OptionError(f"--trace-config option format is '<trace mode>,<setting>=<value>'. Got {text}")
    known = _TRACE_CONFIG.get((_read_trace_mode(mode) if comma else None, setting))
    if known is None:
        raise OptionError(f"--trace-config knows no setting '{text.partition('=')[0]}'")
    field, read = known
    return field, read(value)


def _take_no_value(text: str) -> NoReturn:
    raise OptionError(f"option takes no value. Got {text}")


FLAG: Final = Kind("", _take_no_value)
"""An option that says all by being there."""
BOOL: Final = Kind("boolean", read_bool)
INT: Final = Kind("integer", read_int)
NUMBER: Final = Kind("number", read_number)
TEXT: Final = Kind("string", _read_text)
PORT: Final = Kind("port", _read_port)
PATH: Final = Kind("path", lambda text: Path(text) if text else None)
SECONDS: Final = Kind("seconds", lambda text: max(0, read_int(text)))
COUNT: Final = Kind("integer", lambda text: max(0, read_int(text)))
MILLISECONDS: Final = Kind("milliseconds", read_int)
THREADS: Final = Kind("integer", lambda text: max(1, read_int(text)))
VERBOSITY: Final = Kind("integer", _read_verbosity)
DIRECTORY: Final = Kind("path", Path)
REPOSITORY: Final = Kind("path", read_repository)
CONTROL_MODE: Final = Kind(
    "none|poll|explicit", _word_of(ControlMode, "invalid argument for --model-control-mode")
)
CONFIG_NAME: Final = Kind("string", _read_config_name)
LOG_FORMAT: Final = Kind(
    "default|ISO8601|json", _word_of(LogFormat, "invalid argument for --log-format", folded=False)
)
MAX_INPUT_SIZE: Final = Kind("bytes", _positive("http-max-input-size"))
GRPC_ENGINE: Final = Kind("lane|grpcio", _word_of(GrpcEngine, "invalid argument for --grpc-engine"))
HTTP_ENGINE: Final = Kind("lane|aiohttp", _word_of(HttpEngine, "invalid argument for --http-engine"))
GRPC_THREADS: Final = Kind("integer", _read_grpc_threads)
RESPONSE_POOL: Final = Kind("integer", _positive("grpc-max-response-pool-size"))
PATTERN: Final = Kind("regular expression", _read_pattern)
COMPRESSION: Final = Kind(
    "none|low|medium|high",
    _word_of(Compression, "invalid argument for --grpc_infer_response_compression_level"),
)
RESTRICTED_API: Final = Kind("groups:header=value", _restriction("http-restricted-api", "api"))
RESTRICTED_PROTOCOL: Final = Kind("groups:key=value", _restriction("grpc-restricted-protocol", "protocol"))
RATE_LIMIT: Final = Kind("off|execution_count", _read_rate_limit)
RATE_LIMIT_RESOURCE: Final = Kind("name:count[:device]", _read_rate_limit_resource)
TRACE_CONFIG: Final = Kind("[mode,]setting=value", read_trace_config)
TRACE_LEVEL: Final = Kind("OFF|TIMESTAMPS|TENSORS", _read_trace_level)
TRACE_COUNT: Final = Kind("integer", _read_trace_count)
UNSIGNED: Final = Kind("integer", _read_unsigned)
BACKEND_CONFIG: Final = Kind("[backend,]setting=value", read_backend_config)
METRICS_CONFIG: Final = Kind("setting=value", read_metrics_config)
