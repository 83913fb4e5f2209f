"""What command line and environment come to: one frozen `Settings`, a section for each part of the service.

The defaults live here and nowhere else: the table of options (see `options`) reads them from these classes,
so the help text, an empty command line and a `Settings()` made in a test can never disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from ..backends.remote.address import Address
from ..proto.trace_level import TraceLevel
from .policy import Policy

MIB: Final = 1024 * 1024


class ControlMode(Enum):
    """Who decides which models are loaded; the values are the words of `--model-control-mode`."""

    NONE = "none"
    """All models of the repositories, once, at the start."""
    POLL = "poll"
    """All models of the repositories, and whatever becomes of them on disk."""
    EXPLICIT = "explicit"
    """Those named by `--load-model`, then whatever clients load and unload."""


class LogFormat(Enum):
    """How an event is spelt in the log; the values are the words of `--log-format`."""

    DEFAULT = "default"
    ISO8601 = "ISO8601"
    JSON = "json"


class Compression(Enum):
    """How much responses to inference over gRPC are compressed; the values are Triton's words."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class GrpcEngine(Enum):
    """Who carries gRPC calls; the values are the words of `--grpc-engine`."""

    LANE = "lane"
    """Our own HTTP/2."""
    GRPCIO = "grpcio"
    """gRPC's library."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The certificates of a door, in PEM files; without TLS none is looked at."""

    enabled: bool = False
    certificate: Path | None = None
    """The server's certificate, and after it those that vouch for it."""
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class GrpcTlsSettings(TlsSettings):
    """What gRPC knows of TLS beyond what HTTP does: clients with certificates of their own."""

    mutual: bool = False
    """Whether a client must have a certificate that `root` vouches for."""
    root: Path | None = None


class HttpEngine(Enum):
    """What answers inference over HTTP; the values are the words of `--http-engine`."""

    LANE = "lane"
    """A connection of our own, which leaves to aiohttp whatever is no plain inference request."""
    AIOHTTP = "aiohttp"
    """aiohttp, as it does all other requests."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The HTTP front."""

    enabled: bool = True
    address: str = "0.0.0.0"  # noqa: S104 - Triton's default: a server is there to be reached
    port: int = 8000
    """The port to listen at; 0 picks a free one."""
    reuse_port: bool = False
    """Whether other processes may listen at the same port (SO_REUSEPORT)."""
    max_input_size: int = 64 * MIB
    """Bytes that JSON, one raw input or a decompressed body may have; tensors in binary form are not JSON."""
    forward_pattern: str = ""
    """Headers whose names have this pattern in them go to the model as parameters; empty forwards none."""
    policy: Policy = field(default_factory=Policy)
    engine: HttpEngine = HttpEngine.LANE


@dataclass(frozen=True, slots=True)
class KeepaliveSettings:
    """When gRPC connections are probed, and when they are closed; all times in milliseconds."""

    time_ms: int = 7_200_000
    timeout_ms: int = 20_000
    permit_without_calls: bool = False
    max_pings_without_data: int = 2
    min_ping_interval_without_data_ms: int = 300_000
    max_ping_strikes: int = 2
    max_connection_age_ms: int = 0
    """How long a connection may live; 0 is for ever."""
    max_connection_age_grace_ms: int = 0


@dataclass(frozen=True, slots=True)
class GrpcSettings:
    """The gRPC front."""

    enabled: bool = True
    address: str = "0.0.0.0"  # noqa: S104 - as for HTTP
    port: int = 8001
    reuse_port: bool = False
    engine: GrpcEngine = GrpcEngine.LANE
    compression: Compression = Compression.NONE
    forward_pattern: str = ""
    """As for HTTP, with the keys of metadata in the place of headers."""
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """The metrics endpoint."""

    enabled: bool = True
    address: str = ""
    """Empty stands for the address of the HTTP front until `arguments` resolves it."""
    port: int = 8002
    cpu: bool = True
    """Whether to report the utilisation and the memory of the machine."""
    gpu: bool = True
    """Whether to report the GPUs."""
    interval_ms: float = 2000.0
    """How old a reading of the machine's state may be before it is taken again."""
    counter_latencies: bool = True
    """Whether the durations of requests are counted up, in microseconds."""
    histogram_latencies: bool = True
    """Whether a histogram tells how long first responses took."""
    summary_latencies: bool = False
    """Whether summaries tell quantiles of the phases of requests."""
    quantiles: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.999)
    """The quantiles that summaries tell."""


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """Where models come from and how they are loaded."""

    paths: tuple[Path | Address, ...] = ()
    cache: Path = field(default_factory=lambda: Path.home() / ".cache" / "deuteron")
    """Where what is fetched of remote repositories is kept."""
    control_mode: ControlMode = ControlMode.NONE
    startup_models: tuple[str, ...] = ()
    """Models to load at the start in explicit mode; `*` alone is all of them."""
    auto_complete: bool = True
    """Whether what a configuration leaves out is read from the model's files."""
    strict_readiness: bool = True
    config_name: str = ""
    """Name of the configuration to prefer, `configs/<name>.pbtxt`, to `config.pbtxt`."""
    load_threads: int = 4
    """Models that load at the same time."""
    load_timeout_s: int = 600
    """Seconds that one version of a model may take to become ready; 0 is for ever."""
    load_retries: int = 0
    """How often a model that cannot be loaded is tried again before that is told."""
    namespacing: bool = False
    """Whether equal names in two repositories are two models."""
    on_demand: bool = False
    """Whether models are loaded when they are asked for."""
    on_demand_bytes: int = 0
    """Bytes that models take together which are loaded so; 0 is any number."""
    kept: tuple[str, ...] = ()
    """Models that are loaded at once nevertheless, and stay."""
    poll_s: int = 15
    """Seconds from one look at the repositories to the next, in poll mode; 0 looks only at the start."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, in which form, and where to."""

    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0
    format: LogFormat = LogFormat.DEFAULT
    file: Path | None = None
    """The file to append to; None is standard error."""


class TraceMode(Enum):
    """Where traces go; the values are the words of `--trace-config mode=`."""

    TRITON = "triton"
    """To a file."""
    OPENTELEMETRY = "opentelemetry"
    """To a collector, as spans."""


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """How spans are exported: OTLP over HTTP, in batches; the fields are called as Triton's settings are."""

    url: str = "http://localhost:4318/v1/traces"
    resource: tuple[str, ...] = ()
    """What is told of this server besides, each as `key=value`."""
    bsp_max_queue_size: int = 2048
    """Spans that wait to be exported; what comes on top is dropped."""
    bsp_schedule_delay: int = 5000
    """Milliseconds from one export to the next."""
    bsp_max_export_batch_size: int = 512


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Which requests are traced, and what of them."""

    level: TraceLevel = TraceLevel.OFF
    rate: int = 1000
    """Every so many requests one is traced."""
    count: int = -1
    """How many requests are traced at most; -1 is any number."""
    log_frequency: int = 0
    """Traces that go to a file together; 0 is all of them, when the server stops."""
    file: Path | None = None
    """The file that traces go to; None is nowhere."""
    mode: TraceMode = TraceMode.TRITON
    spans: SpanSettings = SpanSettings()


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """The log of requests."""

    file: Path | None = None
    """The file that a line is appended to for each request; None is nowhere."""
    rate: int = 1
    """Every so many requests one is logged."""


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """Whether instances share what there is too little of, and how much there is."""

    enabled: bool = False
    resources: tuple[tuple[str, int, int], ...] = ()
    """Names, counts, and numbers of devices; -1 is each of them."""


@dataclass(frozen=True, slots=True)
class LocalCacheSettings:
    """A response cache in the memory of the server."""

    size: int
    """Bytes."""
    ttl_s: int = 0
    """Seconds that a response may be kept; 0 is for ever."""


@dataclass(frozen=True, slots=True)
class RedisCacheSettings:
    """A response cache that servers share; where a time is 0, the default holds."""

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    connect_timeout_ms: int = 0
    socket_timeout_ms: int = 0
    """How long Redis may take to answer before a request is answered without it."""
    wait_timeout_ms: int = 0
    """How long a request may wait for others to be looked up."""
    connections: int = 1
    tls: bool = False
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    """File of the certificates that vouch for Redis."""
    authorities: Path | None = None
    """Directory of such files."""
    ttl_s: int = 0
    """Seconds that a response may be kept; 0 leaves that to Redis."""


CacheSettings = LocalCacheSettings | RedisCacheSettings


@dataclass(frozen=True, slots=True)
class SequenceStoreSettings:
    """The Redis that keeps the states of sequences."""

    host: str
    port: int
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the command line and the environment decided."""

    server_id: str = "triton"
    exit_timeout_s: int = 30
    """Seconds to wait, when exiting, for requests in flight."""
    exit_on_error: bool = True
    """Whether a model that cannot load at the start ends the server."""
    client_shared_memory: bool = False
    """Whether clients may register shared memory."""
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    http_tls: TlsSettings = field(default_factory=TlsSettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    grpc_tls: GrpcTlsSettings = field(default_factory=GrpcTlsSettings)
    keepalive: KeepaliveSettings = field(default_factory=KeepaliveSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    rate_limit: RateLimitSettings = field(default_factory=RateLimitSettings)
    cache: CacheSettings | None = None
    """Where responses are kept; None is nowhere."""
    sequence_store: SequenceStoreSettings | None = None
    """Where the states of sequences are kept; None is in this process alone."""
    backends: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`--backend-config` by backend name; those for all backends are under the empty name."""
    remarks: tuple[str, ...] = ()
    """What to tell the operator about the command line as soon as there is a log."""
