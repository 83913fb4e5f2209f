"""The cache is chosen on the command line, in Triton's words, and what cannot be is said in Triton's."""

from pathlib import Path

import pytest

from deuteron.service.arguments import read_settings
from deuteron.service.settings import LocalCacheSettings, RedisCacheSettings, Settings
from deuteron.service.values import OptionError


@pytest.fixture
def models(tmp_path: Path) -> str:
    return f"--model-repository={tmp_path}"


def read(models: str, *words: str, **environment: str) -> Settings:
    return read_settings([models, *words], environment)


def test_nothing_is_cached_unless_asked_for(models: str) -> None:
    assert read(models).cache is None
    assert read(models, "--response-cache-byte-size=0").cache is None


def test_a_local_cache_has_a_size_and_may_have_a_time(models: str) -> None:
    assert read(models, "--cache-config=local,size=1048576").cache == LocalCacheSettings(1048576)
    words = ("--cache-config", "local,size=9", "--cache-config", "local,ttl=60")
    assert read(models, *words).cache == LocalCacheSettings(9, ttl_s=60)


def test_the_old_spelling_means_the_local_cache_and_is_remarked(models: str) -> None:
    settings = read(models, "--response-cache-byte-size=8192")
    assert settings.cache == LocalCacheSettings(8192)
    assert settings.remarks == (
        "--response-cache-byte-size is deprecated, use --cache-config local,size=<bytes>",
    )


def test_redis_is_asked_for_setting_by_setting(models: str) -> None:
    told = {
        "host": "cache.local",
        "port": "6380",
        "user": "server",
        "password": "secret=,1",
        "db": "2",
        "connect_timeout": "10",
        "socket_timeout": "20",
        "wait_timeout": "30",
        "pool_size": "4",
        "tls_enabled": "true",
        "cert": "own.pem",
        "key": "own.key",
        "cacert": "authority.pem",
        "cacert_dir": "/etc/authorities",
        "ttl": "3600",
    }
    cache = read(models, *(f"--cache-config=redis,{name}={value}" for name, value in told.items())).cache
    assert cache == RedisCacheSettings(
        host="cache.local",
        port=6380,
        user="server",
        password="secret=,1",
        database=2,
        connect_timeout_ms=10,
        socket_timeout_ms=20,
        wait_timeout_ms=30,
        connections=4,
        tls=True,
        certificate=Path("own.pem"),
        key=Path("own.key"),
        authority=Path("authority.pem"),
        authorities=Path("/etc/authorities"),
        ttl_s=3600,
    )
    assert "secret" not in repr(cache), "nobody reads the password from a log"


def test_the_environment_says_who_asks_redis_unless_the_command_line_does(models: str) -> None:
    words = ("--cache-config=redis,host=h", "--cache-config=redis,port=1")
    names = {"TRITONCACHE_REDIS_USERNAME": "from", "TRITONCACHE_REDIS_PASSWORD": "outside"}
    cache = read(models, *words, **names).cache
    assert isinstance(cache, RedisCacheSettings)
    assert (cache.user, cache.password) == ("from", "outside")
    cache = read(models, *words, "--cache-config=redis,password=inside", **names).cache
    assert isinstance(cache, RedisCacheSettings)
    assert (cache.user, cache.password) == ("from", "inside")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--cache-config=local"],
            "--cache-config option format is '<cache name>,<setting>=<value>'. Got local",
        ),
        (["--cache-config=local,size"], "--cache-config option format is"),
        (["--cache-config=,size=1"], "No cache specified. --cache-config option format is"),
        (["--cache-config=memcached,host=x"], "there is no cache 'memcached'; there are 'local' and 'redis'"),
        (["--cache-config=local,host=x"], "cache 'local' knows no setting 'host'"),
        (["--cache-config=local,ttl=1"], "config didn't contain a valid 'size' field"),
        (["--cache-config=local,size=x"], "--cache-config local,size: Invalid option value. Got x"),
        (["--cache-config=local,size=0"], "a cache has a size above 0. Got 0"),
        (["--cache-config=redis,port=1"], "Must at a minimum specify 'host' and 'port'"),
        (["--cache-config=redis,port=nonexistent"], "--cache-config redis,port: Invalid option value."),
        (["--cache-config=redis,port=70000"], "Provided option value is out of bound. Got 70000"),
        (["--cache-config=redis,ttl=-1"], "Provided option value is out of bound. Got -1"),
        (
            ["--cache-config=local,size=8192", "--cache-config=redis,host=x"],
            "found multiple cache configurations, but only a single cache is currently supported",
        ),
        (
            ["--response-cache-byte-size=12345", "--cache-config=local,size=67890"],
            "Error: Incompatible flags --response-cache-byte-size and --cache-config both provided.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_is_refused_with_its_reason(models: str, words: list[str], message: str) -> None:
    with pytest.raises(OptionError) as raised:
        read(models, *words)
    assert message in str(raised.value)
