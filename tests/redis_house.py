"""A real Redis as a process: started, waited for, and never left behind."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NEEDS_REDIS = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed: apt-get install redis-server"
)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(directory: Path, port: int, *words: str) -> Iterator[redis.Redis]:
    """Run a Redis that writes nothing to disk; yield a client of it, once it answers."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", *words]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as process:
        client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0))
        try:
            while not _answers(client):
                assert process.poll() is None, "redis-server ended"
            yield client
        finally:
            client.close()
            process.kill()


def port_of(client: redis.Redis) -> int:
    """Return where a Redis listens."""
    return int(client.connection_pool.connection_kwargs["port"])


def _answers(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False
    return True
