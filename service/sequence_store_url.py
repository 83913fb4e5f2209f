"""What `--sequence-store` says: where the Redis is that keeps the states of sequences."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import unquote, urlsplit

from .settings import SequenceStoreSettings
from .values import OptionError

USER: Final = "DEUTERON_SEQUENCE_STORE_USERNAME"
PASSWORD: Final = "DEUTERON_SEQUENCE_STORE_PASSWORD"  # noqa: S105 - the name of a variable
"""Variables of the environment that say who asks Redis, where the URL does not."""

PORT: Final = 6379
_SCHEMES: Final = {"redis": False, "rediss": True}
"""Whether a scheme means TLS."""


def read_sequence_store(text: str) -> SequenceStoreSettings:
    """Return what `redis://[user[:password]@]host[:port][/database]` says; `rediss` is Redis over TLS."""
    wrong = OptionError(
        "--sequence-store is written redis://[user[:password]@]host[:port][/database], or rediss://… for TLS"
    )
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise wrong from None
    database = url.path.removeprefix("/")
    if url.scheme not in _SCHEMES or not url.hostname or url.query or url.fragment:
        raise wrong
    if database and not (database.isascii() and database.isdigit() and len(database) <= len("15")):
        raise wrong
    return SequenceStoreSettings(
        url.hostname,
        port or PORT,
        int(database or 0),
        unquote(url.username) if url.username else None,
        unquote(url.password) if url.password else None,
        _SCHEMES[url.scheme],
    )


def with_credentials(
    settings: SequenceStoreSettings | None, environment: Mapping[str, str]
) -> SequenceStoreSettings | None:
    """Return settings with the credentials of the environment, where the URL has none."""
    if settings is None or settings.password is not None:
        return settings
    return replace(settings, user=settings.user or environment.get(USER), password=environment.get(PASSWORD))
