"""The options about who runs when, and about what is kept: rows of the table in `options`."""

from typing import Final

from . import values
from .cache_options import read_cache_config
from .door_options import REPEATABLE
from .option import Group, Option, inert
from .sequence_store_url import read_sequence_store

_CACHE_CONFIG: Final = values.Kind("cache,setting=value", read_cache_config)
_SEQUENCE_STORE: Final = values.Kind("redis://host[:port][/database]", read_sequence_store)

SCHEDULING: Final = Group(
    "Scheduling and caching",
    (
        Option(
            "rate-limit",
            values.RATE_LIMIT,
            "Whether instances wait for the resources that their rate_limiter names (execution_count), in "
            "turns by their priority; off ignores them.",
            "rate_limit.enabled",
        ),
        Option(
            "rate-limit-resource",
            values.RATE_LIMIT_RESOURCE,
            "How many there are of a resource, on each device or on one; of those that are global, in all. "
            f"{REPEATABLE} If it is never given, there are as many as one instance needs at most.",
            "rate_limit.resources",
            repeatable=True,
        ),
        Option(
            "cache-config",
            _CACHE_CONFIG,
            "Where responses of models with response_cache { enable: true } are kept: "
            "local,size=<bytes>, or redis,host=<name> and redis,port=<port>, with user, password, db, "
            "connect_timeout, socket_timeout, wait_timeout (milliseconds), pool_size, tls_enabled, cert, "
            f"key, cacert, cacert_dir; both take ttl=<seconds>. {REPEATABLE}",
            repeatable=True,
        ),
        Option(
            "response-cache-byte-size",
            values.UNSIGNED,
            "Deprecated spelling of --cache-config local,size=.",
            default=0,
        ),
        Option(
            "sequence-store",
            _SEQUENCE_STORE,
            "Redis that keeps the implicit state of sequences after each step, so that any server with "
            "the same store goes on with them, also after a crash. While it is away their requests fail. "
            "User and password may also stand in DEUTERON_SEQUENCE_STORE_USERNAME and _PASSWORD.",
            "sequence_store",
        ),
        inert("cache-directory", values.TEXT, "/opt/tritonserver/caches"),
    ),
)
