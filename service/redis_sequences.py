"""The sequence store in Redis: a record for each sequence, under a key that every server finds.

It is asked on the lanes of models, which wait for the answer: so it takes a short time only, and after a
failure none at all for a while. What went wrong is told to whoever asked, who then makes no step.

A record replaces another only if that is still the one its step began with. Redis compares and writes in one
go, by a script; one that comes twice, because the answer to the first was lost, finds itself and is content.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.retry import Retry

from ..actors.clock import SECOND, Clock, Instant, now
from ..backends.sequence_store import Put, SequenceStoreError
from ..proto.errors import Fault, InferError
from ..proto.sequence_record import TOKEN_END, TOKEN_START
from .settings import SequenceStoreSettings

LARGEST: Final = 16 << 20
"""Bytes that one record may have."""
TIMEOUT_S: Final = 0.5
"""How long to connect, and how long to wait for an answer."""
LEFT_ALONE: Final = SECOND
"""How long Redis is left alone after a failure."""

ANY: Final = b"*"

REPLACE: Final = f"""
local token = redis.call('GETRANGE', KEYS[1], {TOKEN_START}, {TOKEN_END - 1})
if token == string.sub(ARGV[2], {TOKEN_START + 1}, {TOKEN_END}) then return 1 end
if ARGV[1] ~= '{ANY.decode()}' and ARGV[1] ~= token then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

log: Final = structlog.stdlib.get_logger(__name__)


class RedisSequences:
    """Records in Redis; used from any thread."""

    def __init__(self, settings: SequenceStoreSettings, clock: Clock = now) -> None:
        """Take where Redis is; nothing is asked yet."""
        self.largest = LARGEST
        self._clock = clock
        self._left_alone_until: Instant = 0
        self._works = True
        self._client = Redis(
            host=settings.host,
            port=settings.port,
            db=settings.database,
            username=settings.user,
            password=settings.password,
            ssl=settings.tls,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            # A connection that Redis closed long ago shows it when it is used next: once more, at once.
            retry=Retry(NoBackoff(), 1),
            protocol=2,
        )

    def check(self) -> None:
        """Ask Redis whether it is there; raises InferError where it wants nothing to do with us.

        An outage is only logged, for it may be over when a sequence comes.
        """
        try:
            self._client.ping()
        except (AuthenticationError, ResponseError) as error:  # a mistake of whoever set us up
            raise InferError(Fault.UNAVAILABLE, f"the sequence store refuses us: {error}") from error
        except (RedisError, OSError) as error:
            self._failed(error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def tokens(self, keys: Sequence[str]) -> Sequence[bytes]:
        """Return the token under each key, empty bytes where nothing is; raises SequenceStoreError."""
        return self._texts(keys, TOKEN_START, TOKEN_END - 1)

    def records(self, keys: Sequence[str]) -> Sequence[bytes]:
        """Return what is kept under each key, empty bytes where nothing is; raises SequenceStoreError."""
        return self._texts(keys, 0, LARGEST)

    def write(self, puts: Sequence[Put]) -> Sequence[bool]:
        """Write records, and tell which were; raises SequenceStoreError."""

        def ask(pipeline: "Pipeline") -> None:
            for put in puts:
                pipeline.eval(REPLACE, 1, put.key, put.replaces or ANY, put.spelt, put.keep_ms)

        return [bool(each) for each in self._ask(ask)] if puts else ()

    def _texts(self, keys: Sequence[str], start: int, end: int) -> Sequence[bytes]:
        def ask(pipeline: "Pipeline") -> None:
            for key in keys:
                pipeline.getrange(key, start, end)

        return self._ask(ask)

    def _ask(self, ask: Callable[["Pipeline"], Any]) -> list[Any]:
        """Return what Redis answers to several commands, sent together; raises SequenceStoreError."""
        if self._clock() < self._left_alone_until:
            raise SequenceStoreError("it failed less than a second ago")
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                ask(pipeline)
                answers = pipeline.execute()
        except (RedisError, OSError, ValueError) as error:
            raise SequenceStoreError(self._failed(error)) from error
        if not self._works:
            self._works = True
            log.info("the sequence store works again")
        return answers

    def _failed(self, error: Exception) -> str:
        """Leave Redis alone for a while; return what went wrong."""
        self._left_alone_until = self._clock() + LEFT_ALONE
        reason = f"{type(error).__name__}: {error}"
        if self._works:
            self._works = False
            log.warning("the sequence store does not work; steps of sequences fail", reason=reason)
        return reason
