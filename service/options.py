"""The options of `deuteron serve` as a table: tritonserver's names, and what becomes of each here."""

from typing import Final

from . import values
from .door_options import GRPC, HTTP, REPEATABLE
from .option import Group, Option, absent, deprecated, inert
from .scheduling_options import SCHEDULING

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
                "Directory of models, or s3://bucket/path, gs://bucket/path, as://account/container/path, or "
                f"the http(s) address of a .zip or .tar.gz. {REPEATABLE} A model found in two of them is not "
                "served, unless names are told apart by --model-namespacing.",
                "repository.paths",
                repeatable=True,
            ),
            Option(
                "repository-cache",
                values.DIRECTORY,
                "Directory for what is fetched of remote repositories; deuteron's own option.",
                "repository.cache",
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
                f"Model to load at the start in explicit mode. {REPEATABLE} '*' alone loads all.",
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
                "model-load-retry-count",
                values.COUNT,
                "How often a model that cannot be loaded is tried again before that is told.",
                "repository.load_retries",
            ),
            Option(
                "model-namespacing",
                values.BOOL,
                "Whether equal names in two repositories are two models. An ensemble means the one of its "
                "own repository first; a client reaches a model by a name that only one has.",
                "repository.namespacing",
            ),
            Option(
                "load-on-demand",
                values.BOOL,
                "Whether a model is loaded when the first request for it comes, which waits for that. "
                "deuteron's own option, as the two below.",
                "repository.on_demand",
            ),
            Option(
                "on-demand-memory-byte-size",
                values.COUNT,
                "Bytes that models take together which were loaded on demand; the least recently used leaves "
                "when another needs its room. 0 is any number.",
                "repository.on_demand_bytes",
            ),
            Option(
                "keep-loaded",
                values.TEXT,
                f"Model to load at once though others are loaded on demand; it stays. {REPEATABLE}",
                "repository.kept",
                repeatable=True,
            ),
            Option(
                "repository-poll-secs",
                values.SECONDS,
                "How often to look at the repositories in poll mode. A change is followed when it has rested "
                "from one look to the next.",
                "repository.poll_s",
            ),
            inert("enable-peer-access", values.BOOL, default=True),
        ),
    ),
    HTTP,
    GRPC,
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
                f"summary_quantiles=<quantile>:<error>,... {REPEATABLE}",
                repeatable=True,
            ),
            Option(
                "allow-gpu-metrics",
                values.BOOL,
                "Whether to report GPUs, where NVIDIA's driver and the extra gpu are installed.",
                "metrics.gpu",
            ),
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
                f"Setting of one backend, or of all when no backend is named. {REPEATABLE}",
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
    SCHEDULING,
    Group(
        "Tracing",
        (
            Option(
                "trace-config",
                values.TRACE_CONFIG,
                "Which requests are traced: level=<OFF|TIMESTAMPS|TENSORS>, rate=<every so many, 1000>, "
                "count=<at most, -1>; and where to: triton,file=<path>, triton,log-frequency=<traces to a "
                "file, 0>; or with mode=opentelemetry to a collector: opentelemetry,url=<address>, "
                "opentelemetry,resource=<key>=<value>, opentelemetry,bsp_max_queue_size=<spans>, "
                "opentelemetry,bsp_schedule_delay=<milliseconds>, "
                f"opentelemetry,bsp_max_export_batch_size=<spans>. {REPEATABLE}",
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
