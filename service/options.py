"""The options of `deuteron serve` as a table: tritonserver's names, and what becomes of each here."""

from typing import Final

from . import policy, values
from .option import Group, Option, absent, deprecated, inert

_REPEATABLE = "May be given several times."
_ADDRESS = "Address to listen at; unix:/path is a socket in the file system, and has no port."
_GROUPS = f"Groups: {', '.join(group.value for group in policy.Group)}."

GROUPS: Final = (
    Group(
        "Server",
        (
            Option("id", values.TEXT, "Name of this server in its metadata.", "server_id"),
            Option(
                "exit-timeout-secs",
                values.SECONDS,
                "How long to wait, when exiting, for requests in flight.",
                "exit_timeout_s",
            ),
        ),
    ),
    Group(
        "Model repository",
        (
            Option(
                "model-repository",
                values.REPOSITORY,
                f"Directory of models. {_REPEATABLE} A model found in two of them is not served.",
                "repository.paths",
                repeatable=True,
            ),
            Option(
                "model-store",
                values.REPOSITORY,
                "The same as --model-repository.",
                "repository.paths",
                repeatable=True,
            ),
            Option(
                "exit-on-error",
                values.BOOL,
                "Whether a model that cannot be loaded at the start ends the server.",
                "exit_on_error",
            ),
            Option(
                "disable-auto-complete-config",
                values.FLAG,
                "Take configurations as they are; nothing is filled in from the model's files.",
                default=False,
            ),
            Option(
                "strict-model-config",
                values.BOOL,
                "Deprecated spelling of --disable-auto-complete-config.",
                default=False,
            ),
            Option(
                "strict-readiness",
                values.BOOL,
                "Whether the server is ready only while all its models are.",
                "repository.strict_readiness",
            ),
            Option(
                "model-control-mode",
                values.CONTROL_MODE,
                "Which models are loaded: all of them at the start (none), all of them as they come, change "
                "and go (poll), or those that --load-model and clients ask for (explicit).",
                "repository.control_mode",
            ),
            Option(
                "load-model",
                values.TEXT,
                f"Model to load at the start in explicit mode. {_REPEATABLE} '*' alone loads all.",
                "repository.startup_models",
                repeatable=True,
            ),
            Option(
                "model-config-name",
                values.CONFIG_NAME,
                "Prefer configs/<name>.pbtxt of a model to its config.pbtxt.",
                "repository.config_name",
            ),
            Option(
                "model-load-thread-count",
                values.THREADS,
                "How many models may load at the same time.",
                "repository.load_threads",
            ),
            Option(
                "model-load-timeout-secs",
                values.SECONDS,
                "How long one version of a model may take to become ready; 0 is for ever. Triton has no such "
                "option and waits for ever.",
                "repository.load_timeout_s",
            ),
            Option(
                "repository-poll-secs",
                values.SECONDS,
                "How often to look at the repositories in poll mode. A change is followed when it has rested "
                "from one look to the next.",
                "repository.poll_s",
            ),
            inert("enable-peer-access", values.BOOL, default=True),
            absent("model-load-retry-count", values.INT, 0),
            absent("model-namespacing", values.BOOL, default=False),
        ),
    ),
    Group(
        "HTTP",
        (
            Option("allow-http", values.BOOL, "Whether to listen for HTTP requests.", "http.enabled"),
            Option("http-address", values.TEXT, _ADDRESS, "http.address"),
            Option("http-port", values.PORT, "Port to listen at; 0 picks a free one.", "http.port"),
            Option(
                "reuse-http-port", values.BOOL, "Whether other servers may share the port.", "http.reuse_port"
            ),
            Option(
                "http-max-input-size",
                values.MAX_INPUT_SIZE,
                "Largest JSON, raw input or decompressed body of a request.",
                "http.max_input_size",
            ),
            Option(
                "http-header-forward-pattern",
                values.PATTERN,
                "Headers to hand to models as parameters: a regular expression, found anywhere in the name "
                "and in any case.",
                "http.forward_pattern",
            ),
            Option(
                "http-restricted-api",
                values.RESTRICTED_API,
                f"Groups of operations that only a header opens. {_REPEATABLE} {_GROUPS}",
                repeatable=True,
            ),
            Option(
                "http-use-ssl",
                values.BOOL,
                "Whether to speak HTTPS; deuteron's own option, as the two below.",
                "http_tls.enabled",
            ),
            Option(
                "http-server-cert",
                values.PATH,
                "PEM file of the server's certificate.",
                "http_tls.certificate",
            ),
            Option("http-server-key", values.PATH, "PEM file of its key.", "http_tls.key"),
            inert("http-thread-count", values.INT, 8),
        ),
    ),
    Group(
        "gRPC",
        (
            Option("allow-grpc", values.BOOL, "Whether to listen for gRPC requests.", "grpc.enabled"),
            Option("grpc-address", values.TEXT, _ADDRESS, "grpc.address"),
            Option("grpc-port", values.PORT, "Port to listen at; 0 picks a free one.", "grpc.port"),
            Option(
                "reuse-grpc-port", values.BOOL, "Whether other servers may share the port.", "grpc.reuse_port"
            ),
            Option(
                "grpc-keepalive-time",
                values.MILLISECONDS,
                "Silence after which a connection is probed.",
                "keepalive.time_ms",
            ),
            Option(
                "grpc-keepalive-timeout",
                values.MILLISECONDS,
                "How long an answer to a probe may take.",
                "keepalive.timeout_ms",
            ),
            Option(
                "grpc-keepalive-permit-without-calls",
                values.BOOL,
                "Whether connections without calls are probed.",
                "keepalive.permit_without_calls",
            ),
            Option(
                "grpc-http2-max-pings-without-data",
                values.INT,
                "Probes to send without data between them; 0 is any number.",
                "keepalive.max_pings_without_data",
            ),
            Option(
                "grpc-http2-min-recv-ping-interval-without-data",
                values.MILLISECONDS,
                "Least time between probes of a client that sends no data.",
                "keepalive.min_ping_interval_without_data_ms",
            ),
            Option(
                "grpc-http2-max-ping-strikes",
                values.INT,
                "Early probes of a client that are forgiven; 0 forgives all.",
                "keepalive.max_ping_strikes",
            ),
            Option(
                "grpc-max-connection-age",
                values.MILLISECONDS,
                "Age at which a connection is closed; 0 is never.",
                "keepalive.max_connection_age_ms",
            ),
            Option(
                "grpc-max-connection-age-grace",
                values.MILLISECONDS,
                "How long calls of a connection past its age may take.",
                "keepalive.max_connection_age_grace_ms",
            ),
            Option(
                "grpc-header-forward-pattern",
                values.PATTERN,
                "Metadata to hand to models as parameters: a regular expression, as for HTTP.",
                "grpc.forward_pattern",
            ),
            Option(
                "grpc-restricted-protocol",
                values.RESTRICTED_PROTOCOL,
                "Groups of calls that only metadata opens, its key after triton-grpc-protocol-. "
                f"{_REPEATABLE} {_GROUPS}",
                repeatable=True,
            ),
            Option("grpc-use-ssl", values.BOOL, "Whether to speak TLS.", "grpc_tls.enabled"),
            Option(
                "grpc-use-ssl-mutual",
                values.BOOL,
                "Whether to speak TLS, and with clients that --grpc-root-cert vouches for only.",
                "grpc_tls.mutual",
            ),
            Option(
                "grpc-server-cert",
                values.PATH,
                "PEM file of the server's certificate.",
                "grpc_tls.certificate",
            ),
            Option("grpc-server-key", values.PATH, "PEM file of its key.", "grpc_tls.key"),
            Option(
                "grpc-root-cert",
                values.PATH,
                "PEM file of the certificates that vouch for clients.",
                "grpc_tls.root",
            ),
            Option(
                "grpc-infer-response-compression-level",
                values.COMPRESSION,
                "How much responses to inference are compressed.",
                "grpc.compression",
            ),
            inert("grpc-infer-thread-count", values.GRPC_THREADS, 2),
            inert("grpc-infer-allocation-pool-size", values.INT, 8),
            inert("grpc-max-response-pool-size", values.RESPONSE_POOL, 2**31 - 1),
        ),
    ),
    Group(
        "Metrics",
        (
            Option("allow-metrics", values.BOOL, "Whether to serve metrics.", "metrics.enabled"),
            Option(
                "metrics-address",
                values.TEXT,
                "Address to listen at; that of HTTP when not given.",
                "metrics.address",
            ),
            Option("metrics-port", values.PORT, "Port to listen at; 0 picks a free one.", "metrics.port"),
            Option(
                "allow-cpu-metrics",
                values.BOOL,
                "Whether to report the processor and the memory.",
                "metrics.cpu",
            ),
            Option(
                "metrics-interval-ms",
                values.NUMBER,
                "How old readings of the processor and the memory may be.",
                "metrics.interval_ms",
            ),
            Option(
                "metrics-config",
                values.METRICS_CONFIG,
                "counter_latencies=false leaves out the durations of requests, histogram_latencies=false the "
                "histogram of first responses; summary_latencies=true adds summaries, with the quantiles of "
                f"summary_quantiles=<quantile>:<error>,... {_REPEATABLE}",
                repeatable=True,
            ),
            inert("allow-gpu-metrics", values.BOOL, default=True),
        ),
    ),
    Group(
        "Logging",
        (
            Option("log-info", values.BOOL, "Whether to log what happens.", "log.info"),
            Option("log-warning", values.BOOL, "Whether to log warnings.", "log.warning"),
            Option("log-error", values.BOOL, "Whether to log errors.", "log.error"),
            Option("log-verbose", values.VERBOSITY, "Log details too: 1 or more; 0 is off.", "log.verbose"),
            Option(
                "log-format",
                values.LOG_FORMAT,
                "Triton's two forms of a line, or one JSON object a line.",
                "log.format",
            ),
            Option(
                "log-file", values.PATH, "File to append to instead of writing to standard error.", "log.file"
            ),
            Option(
                "access-log-file",
                values.PATH,
                "File to append a JSON object to for each inference request, with the time of its phases.",
                "access_log.file",
            ),
            Option(
                "access-log-rate",
                values.THREADS,
                "Every so many requests one is written to the access log.",
                "access_log.rate",
            ),
        ),
    ),
    Group(
        "Backends",
        (
            Option(
                "backend-config",
                values.BACKEND_CONFIG,
                f"Setting of one backend, or of all when no backend is named. {_REPEATABLE}",
                repeatable=True,
            ),
            inert("backend-directory", values.TEXT, "/opt/tritonserver/backends"),
            inert("repoagent-directory", values.TEXT, "/opt/tritonserver/repoagents"),
            absent("host-policy", values.TEXT),
            absent("model-load-gpu-limit", values.TEXT),
        ),
    ),
    Group(
        "Memory",
        (
            inert("pinned-memory-pool-byte-size", values.INT, 256 * 1024 * 1024),
            inert("cuda-memory-pool-byte-size", values.TEXT),
            inert("cuda-virtual-address-size", values.TEXT),
            inert("min-supported-compute-capability", values.NUMBER),
            inert("buffer-manager-thread-count", values.INT, 0),
            Option(
                "allow-client-shm",
                values.BOOL,
                "Whether clients may register shared memory of this machine; trust all who reach the server.",
                "client_shared_memory",
            ),
        ),
    ),
    Group(
        "Scheduling and caching",
        (
            absent("rate-limit", values.RATE_LIMIT, "off"),
            absent("rate-limit-resource", values.TEXT),
            absent("cache-config", values.TEXT),
            inert("cache-directory", values.TEXT, "/opt/tritonserver/caches"),
            absent("response-cache-byte-size", values.INT, 0),
        ),
    ),
    Group(
        "Tracing",
        (
            Option(
                "trace-config",
                values.TRACE_CONFIG,
                "Which requests are traced: level=<OFF|TIMESTAMPS|TENSORS>, rate=<every so many, 1000>, "
                "count=<at most, -1>; and where to: triton,file=<path>, triton,log-frequency=<traces to a "
                f"file, 0>. {_REPEATABLE}",
                repeatable=True,
            ),
            deprecated("trace-file", values.PATH, "triton,file"),
            deprecated("trace-level", values.TRACE_LEVEL, "level"),
            deprecated("trace-rate", values.UNSIGNED, "rate"),
            deprecated("trace-count", values.TRACE_COUNT, "count"),
            deprecated("trace-log-frequency", values.UNSIGNED, "triton,log-frequency"),
        ),
    ),
    Group(
        "SageMaker and Vertex AI",
        (
            absent("allow-sagemaker", values.BOOL, default=False),
            inert("sagemaker-port", values.INT, 8080),
            absent("sagemaker-safe-port-range", values.TEXT),
            inert("sagemaker-thread-count", values.INT, 8),
            absent("allow-vertex-ai", values.BOOL, default=False),
            inert("vertex-ai-port", values.INT, 8080),
            inert("vertex-ai-thread-count", values.INT, 8),
            absent("vertex-ai-default-model", values.TEXT, ""),
        ),
    ),
)

OPTIONS: Final = {option.name: option for group in GROUPS for option in group.options}
