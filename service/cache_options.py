"""What `--cache-config` says: which cache keeps responses, and with which settings.

Names and meanings are those of Triton's two caches, `local` and `redis`; `ttl` is deuteron's own. Where
Triton waits for Redis for ever unless told otherwise, here nobody ever does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .settings import CacheSettings, LocalCacheSettings, RedisCacheSettings
from .values import OptionError, read_bool, read_int

USER: Final = "TRITONCACHE_REDIS_USERNAME"
PASSWORD: Final = "TRITONCACHE_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
"""Variables of the environment that say who asks Redis; the command line comes before them."""

_PORTS: Final = range(1, 65536)


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting: the field it lands in, and how its value is read."""

    field: str
    read: Callable[[str], object]


def read_cache_config(text: str) -> tuple[str, str, str]:
    """Return cache, setting and value of `cache,setting=value`."""
    name, comma, assignment = text.partition(",")
    setting, _, value = assignment.partition("=")
    if comma and not name:
        raise OptionError(
            f"No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got {text}"
        )
    if not setting or not value:
        raise OptionError(f"--cache-config option format is '<cache name>,<setting>=<value>'. Got {text}")
    if name not in _CACHES:
        raise OptionError(f"there is no cache '{name}'; there are {' and '.join(map(repr, _CACHES))}")
    if setting not in _CACHES[name]:
        raise OptionError(f"cache '{name}' knows no setting '{setting}'")
    return name, setting, value


def cache_settings(
    given: Iterable[tuple[str, str, str]], environment: Mapping[str, str]
) -> CacheSettings | None:
    """Return what all `--cache-config` together ask for, None where there are none; raises OptionError."""
    values: dict[str, dict[str, Any]] = {}
    for name, setting, value in given:
        kind = _CACHES[name][setting]
        try:
            values.setdefault(name, {})[kind.field] = kind.read(value)
        except OptionError as error:
            raise OptionError(f"--cache-config {name},{setting}: {error}") from None
    if len(values) > 1:
        raise OptionError(
            "found multiple cache configurations, but only a single cache is currently supported"
        )
    if "local" in values:
        return _local(values["local"])
    return _redis(values["redis"], environment) if "redis" in values else None


def _local(values: Mapping[str, Any]) -> LocalCacheSettings:
    if "size" not in values:
        raise OptionError("Failed to initialize LocalCache: config didn't contain a valid 'size' field.")
    return LocalCacheSettings(**values)


def _redis(values: Mapping[str, Any], environment: Mapping[str, str]) -> RedisCacheSettings:
    if not {"host", "port"} <= values.keys():
        raise OptionError(
            "Failed to initialize RedisCache, didn't specify address. Must at a minimum specify 'host' and "
            "'port' in the configuration - e.g. --cache-config redis,host=redis --cache-config "
            "redis,port=6379"
        )
    credentials = {"user": environment.get(USER), "password": environment.get(PASSWORD)}
    return RedisCacheSettings(**{**{name: each for name, each in credentials.items() if each}, **values})


def _read_size(text: str) -> int:
    size = read_int(text)
    if size <= 0:
        raise OptionError(f"a cache has a size above 0. Got {text}")
    return size


def _read_count(text: str) -> int:
    number = read_int(text)
    if number < 0:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return number


def _read_port(text: str) -> int:
    port = read_int(text)
    if port not in _PORTS:
        raise OptionError(f"Provided option value is out of bound. Got {text}")
    return port


def _text(text: str) -> str:
    return text


_CACHES: Final[Mapping[str, Mapping[str, _Setting]]] = {
    "local": {
        "size": _Setting("size", _read_size),
        "ttl": _Setting("ttl_s", _read_count),
    },
    "redis": {
        "host": _Setting("host", _text),
        "port": _Setting("port", _read_port),
        "user": _Setting("user", _text),
        "password": _Setting("password", _text),
        "db": _Setting("database", _read_count),
        "connect_timeout": _Setting("connect_timeout_ms", _read_count),
        "socket_timeout": _Setting("socket_timeout_ms", _read_count),
        "wait_timeout": _Setting("wait_timeout_ms", _read_count),
        "pool_size": _Setting("connections", lambda text: max(1, min(64, read_int(text)))),
        "tls_enabled": _Setting("tls", read_bool),
        "cert": _Setting("certificate", Path),
        "key": _Setting("key", Path),
        "cacert": _Setting("authority", Path),
        "cacert_dir": _Setting("authorities", Path),
        "ttl": _Setting("ttl_s", _read_count),
    },
}
