"""A command line written for Triton works, or is told in one sentence why it does not."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from deuteron import __version__
from deuteron.proto.trace_level import TraceLevel
from deuteron.service.arguments import read_settings
from deuteron.service.cli import main, serve_help
from deuteron.service.option import Option, Presence, default_of
from deuteron.service.options import GROUPS, OPTIONS
from deuteron.service.settings import (
    ControlMode,
    LogFormat,
    RateLimitSettings,
    Settings,
    TraceMode,
    TraceSettings,
)
from deuteron.service.values import OptionError


@pytest.fixture
def models(tmp_path: Path) -> str:
    return f"--model-repository={tmp_path}"


def refusal(*arguments: str) -> str:
    with pytest.raises(OptionError) as caught:
        read_settings(arguments, {})
    return str(caught.value)


def test_a_repository_is_all_it_takes(tmp_path: Path) -> None:
    settings = read_settings(["--model-repository", str(tmp_path)], {})
    assert settings.repository.paths == (tmp_path,)
    assert (settings.http.port, settings.grpc.port, settings.metrics.port) == (8000, 8001, 8002)
    assert settings.remarks == ()


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        (["--id=jupiter"], "server_id", "jupiter"),
        (["--exit-timeout-secs", "7"], "exit_timeout_s", 7),
        (["--exit-timeout-secs=-1"], "exit_timeout_s", 0),
        (["--exit-on-error=off"], "exit_on_error", False),
        (["--strict-readiness", "FALSE"], "repository.strict_readiness", False),
        (["--disable-auto-complete-config"], "repository.auto_complete", False),
        (["--strict-model-config=true"], "repository.auto_complete", False),
        (["--model-control-mode=Explicit"], "repository.control_mode", ControlMode.EXPLICIT),
        (["--model-control-mode=POLL"], "repository.control_mode", ControlMode.POLL),
        (["--repository-poll-secs=1"], "repository.poll_s", 1),
        (["--model-load-timeout-secs=-1"], "repository.load_timeout_s", 0),
        (["--model-load-retry-count=2"], "repository.load_retries", 2),
        (["--model-load-retry-count=-2"], "repository.load_retries", 0),
        (["--model-namespacing=true"], "repository.namespacing", True),
        (["--load-on-demand=true"], "repository.on_demand", True),
        (["--on-demand-memory-byte-size=7"], "repository.on_demand_bytes", 7),
        (["--keep-loaded=a", "--keep-loaded=b"], "repository.kept", ("a", "b")),
        (["--model-config-name=h100"], "repository.config_name", "h100"),
        (["--model-load-thread-count=0"], "repository.load_threads", 1),
        (["--allow-http=0"], "http.enabled", False),
        (["--http-address=127.0.0.1"], "http.address", "127.0.0.1"),
        (["--http-port=1", "--http-port=2"], "http.port", 2),
        (["--reuse-http-port=on"], "http.reuse_port", True),
        (["--http-max-input-size=1"], "http.max_input_size", 1),
        (["--allow-grpc=false"], "grpc.enabled", False),
        (["--grpc-port=9001"], "grpc.port", 9001),
        (["--grpc-keepalive-time=1000"], "keepalive.time_ms", 1000),
        (["--grpc-keepalive-permit-without-calls=1"], "keepalive.permit_without_calls", True),
        (["--grpc-max-connection-age=5"], "keepalive.max_connection_age_ms", 5),
        (["--allow-metrics=false"], "metrics.enabled", False),
        (["--http-address=::1"], "metrics.address", "::1"),
        (["--http-address=::1", "--metrics-address=::"], "metrics.address", "::"),
        (["--metrics-interval-ms=0.5"], "metrics.interval_ms", 0.5),
        (["--metrics-config=counter_latencies=false"], "metrics.counter_latencies", False),
        (["--metrics-config=summary_latencies=false"], "metrics.counter_latencies", True),
        (["--metrics-config=summary_latencies=true"], "metrics.summary_latencies", True),
        (["--metrics-config", "histogram_latencies=false"], "metrics.histogram_latencies", False),
        (["--metrics-config=summary_quantiles=0.5:0.05,0.99:0.001"], "metrics.quantiles", (0.5, 0.99)),
        (["--log-verbose=true"], "log.verbose", 1),
        (["--log-verbose=3"], "log.verbose", 3),
        (["--log-format=ISO8601"], "log.format", LogFormat.ISO8601),
        (["--access-log-file=a.jsonl"], "access_log.file", Path("a.jsonl")),
        (["--access-log-rate=10"], "access_log.rate", 10),
        (["--access-log-rate=0"], "access_log.rate", 1),
        (["--trace-config=rate=7"], "trace.rate", 7),
        (["--trace-config", "count=7"], "trace.count", 7),
        (["--trace-config=Triton,log-frequency=7"], "trace.log_frequency", 7),
        (["--trace-config=mode=triton", "--trace-config=triton,file=a"], "trace.file", Path("a")),
        (["--trace-config=level=timestamps"], "trace.level", TraceLevel.TIMESTAMPS),
        (
            ["--trace-config=level=TENSORS", "--trace-level=TIMESTAMPS"],
            "trace.level",
            TraceLevel.TENSORS | TraceLevel.TIMESTAMPS,
        ),
        (["--trace-config=level=TENSORS", "--trace-config=level=OFF"], "trace.level", TraceLevel.OFF),
        (["--trace-config=rate=7", "--trace-rate=8"], "trace.rate", 7),
        (["--trace-file=a"], "trace.file", Path("a")),
        (["--trace-count=8"], "trace.count", 8),
        (["--trace-config=mode=OpenTelemetry"], "trace.mode", TraceMode.OPENTELEMETRY),
        (["--trace-config=opentelemetry,url=c:1/v1/traces"], "trace.spans.url", "c:1/v1/traces"),
        (["--trace-config=opentelemetry,bsp_schedule_delay=0"], "trace.spans.bsp_schedule_delay", 0),
        (["--trace-log-frequency=8"], "trace.log_frequency", 8),
        (["--log-file=a.log"], "log.file", Path("a.log")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_lands_in_its_place(models: str, words: list[str], place: str, value: object) -> None:
    found: object = read_settings([models, *words], {})
    for name in place.split("."):
        found = getattr(found, name)
    assert found == value


def test_repositories_and_models_repeat_dedupe_and_sort(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    settings = read_settings(
        [
            f"--model-store={tmp_path}/b",
            f"--model-repository={tmp_path}/a",
            f"--model-repository={tmp_path}/b",
            "--model-control-mode=explicit",
            "--load-model=y",
            "--load-model=x",
            "--load-model=y",
        ],
        {},
    )
    assert settings.repository.paths == (tmp_path / "a", tmp_path / "b")
    assert settings.repository.startup_models == ("x", "y")


def test_backend_settings_are_global_or_of_one_backend(models: str) -> None:
    settings = read_settings(
        [
            models,
            "--backend-config=threads=1",
            "--backend-config=python,threads=2",
            "--backend-config=python,a=b=c",
        ],
        {},
    )
    assert settings.backends == {"": {"threads": "1"}, "python": {"threads": "2", "a": "b=c"}}


def test_names_may_be_shortened_while_they_are_unambiguous(models: str) -> None:
    assert read_settings([models, "--http-p", "81"], {}).http.port == 81
    assert refusal("--http=81").startswith("option '--http' is ambiguous; possibilities: '--http-address'")


def test_the_environment_says_how_spans_are_batched_where_the_command_line_does_not(models: str) -> None:
    environment = {"OTEL_BSP_MAX_QUEUE_SIZE": "7", "OTEL_BSP_SCHEDULE_DELAY": "8"}
    words = [models, "--trace-config=opentelemetry,bsp_schedule_delay=9"]
    spans = read_settings(words, environment).trace.spans
    assert (spans.bsp_max_queue_size, spans.bsp_schedule_delay, spans.bsp_max_export_batch_size) == (
        7,
        9,
        512,
    )
    with pytest.raises(OptionError, match="OTEL_BSP_MAX_QUEUE_SIZE"):
        read_settings(words, {"OTEL_BSP_MAX_QUEUE_SIZE": "many"})


def test_the_storage_uri_of_the_environment_stands_in_for_a_repository(tmp_path: Path) -> None:
    assert read_settings([], {"AIP_STORAGE_URI": str(tmp_path)}).repository.paths == (tmp_path,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model-repository must be specified"),
        (["--model-repository=/no/such"], "repository path is not a valid directory: /no/such"),
        (["--model-repository=ftp://models"], "a remote repository is at s3://, gs://, as:// or http(s)://"),
        (["--model-repository=as://account"], "expected as://account/container[/path]"),
        (["--model-repository=https://here/models"], "an archive must end in one of .zip"),
        (["models"], "Unexpected argument: models"),
        (["-p"], "Unexpected argument: -p"),
        (["--"], "Unexpected argument: --"),
        (["--http_port=1"], "unrecognized option '--http_port'; did you mean '--http-port'?"),
        (["--no-such"], "unrecognized option '--no-such'"),
        (["--http-port"], "option '--http-port' requires an argument"),
        (["--http-port=x"], 'Bad option: "--http-port".\nInvalid option value. Got x'),
        (["--http-port=70000"], "Provided option value is out of bound. Got 70000"),
        ([f"--exit-timeout-secs={10**30}"], "Provided option value is out of bound."),
        (["--metrics-interval-ms=nan"], "Provided option value is out of bound. Got nan"),
        (["--allow-http=yes"], "invalid value for bool option: yes"),
        (["--disable-auto-complete-config=true"], "option takes no value. Got true"),
        (["--http-max-input-size=0"], "Error: --http-max-input-size must be greater than 0."),
        (["--model-control-mode=x"], "invalid argument for --model-control-mode"),
        (["--log-format=x"], "invalid argument for --log-format"),
        (["--rate-limit=x"], "invalid argument for --rate-limit"),
        (["--rate-limit-resource=r"], "--rate-limit-resource option format is"),
        (["--rate-limit-resource=r:1:2:3"], "'<resource_name>:<count>'. Got r:1:2:3"),
        (["--rate-limit-resource=:1"], "--rate-limit-resource option format is"),
        (["--rate-limit-resource=r:-1"], "Provided option value is out of bound. Got -1"),
        (["--rate-limit-resource=r:1:x"], "Invalid option value. Got x"),
        (["--grpc-infer-thread-count=1"], "invalid argument for --grpc_infer_thread_count."),
        (["--grpc-max-response-pool-size=0"], "Error: --grpc-max-response-pool-size must be greater than 0."),
        (["--model-config-name="], "Error: empty argument for --model-config-name"),
        (["--model-config-name=../x"], "--model-config-name names a configuration, not a path."),
        (["--backend-config=,a=b"], "No backend specified. --backend-config option format is"),
        (
            ["--backend-config=a"],
            "--backend-config option format is '<backend name>,<setting>=<value>'. Got a",
        ),
        (["--metrics-config=a"], "--metrics-config option format is <setting>=<value>. Got a"),
        (
            ["--trace-config=rate"],
            "--trace-config option format is '<trace mode>,<setting>=<value>'. Got rate",
        ),
        (["--trace-config=,file=a"], "No trace mode specified. --trace-config option format is"),
        (["--trace-config=triton,rate=1"], "--trace-config knows no setting 'triton,rate'"),
        (["--trace-config=x,file=a"], "invalid value for trace mode option: x."),
        (["--trace-config=opentelemetry,file=x"], "--trace-config knows no setting 'opentelemetry,file'"),
        (["--trace-config=opentelemetry,resource=x"], "a resource is told as <key>=<value>. Got x"),
        (
            ["--trace-config=opentelemetry,bsp_max_queue_size=0"],
            "Error: --bsp_max_queue_size must be greater than 0.",
        ),
        (["--trace-config=level=x"], "invalid value for trace level option: x"),
        (["--trace-config=count=-2"], "Provided option value is out of bound. Got -2"),
        (["--trace-rate=-1"], "Provided option value is out of bound. Got -1"),
        (["--metrics-config=a=b"], "--metrics-config knows no setting 'a'"),
        (["--metrics-config=summary_quantiles=0.5"], "Invalid option: [0.5]. No ':' delimiter found."),
        (["--metrics-config=summary_quantiles=x:0"], "Invalid option: [x]. A number was expected"),
        (["--metrics-config=summary_quantiles=1.5:0"], "A quantile lies between 0 and 1"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_cannot_be_obeyed_is_refused_with_its_reason(words: list[str], message: str) -> None:
    assert message in refusal(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--load-model=x"],
            "Use of '--load-model' requires setting '--model-control-mode=explicit' as well.",
        ),
        (
            ["--model-control-mode=explicit", "--load-model=*", "--load-model=x"],
            "Wildcard model name '*' must be the ONLY startup model if specified at all.",
        ),
        (
            ["--grpc-port=8000"],
            "HTTP requests and GRPC requests at the same address and port 0.0.0.0:8000",
        ),
        (
            ["--metrics-port=8001"],
            "GRPC requests and metrics requests at the same address and port 0.0.0.0:8001",
        ),
    ],
)
def test_settings_that_cannot_hold_together_are_refused(models: str, words: list[str], message: str) -> None:
    assert message in refusal(models, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["--grpc-port=8000", "--allow-http=false"],
        ["--grpc-port=8000", "--http-address=127.0.0.1"],
        ["--grpc-port=0", "--http-port=0", "--metrics-port=0"],
    ],
)
def test_ports_clash_only_where_both_are_listened_at(models: str, words: list[str]) -> None:
    assert read_settings([models, *words], {}).repository.paths


def known(presence: Presence) -> list[Option]:
    return [option for option in OPTIONS.values() if option.presence is presence]


@pytest.mark.parametrize("option", known(Presence.INERT), ids=lambda option: option.name)
def test_what_tunes_absent_machinery_is_accepted_with_a_remark(models: str, option: Option) -> None:
    value = {"boolean": "true", "integer": "8", "number": "8"}.get(option.kind.metavar, "x")
    assert read_settings([models, f"--{option.name}={value}"], {}).remarks == (
        f"--{option.name} has no effect here",
    )


@pytest.mark.parametrize("option", known(Presence.ABSENT), ids=lambda option: option.name)
def test_what_is_not_there_is_refused_unless_it_asks_for_nothing(models: str, option: Option) -> None:
    other = {"boolean": "true", "integer": "7", "off|execution_count": "execution_count"}.get(
        option.kind.metavar, "x"
    )
    expected = f"--{option.name} is not available in this version of deuteron"
    assert expected in refusal(models, f"--{option.name}={other}")
    if option.default is not None:
        same = "false" if option.default is False else option.default
        assert read_settings([models, f"--{option.name}={same}"], {}) == read_settings([models], {})


TRACE_CONFIG = {f"trace.{field.name}" for field in fields(TraceSettings)}
"""What `--trace-config` sets."""


def test_a_trace_without_a_file_is_remarked(models: str) -> None:
    settings = read_settings([models, "--trace-config=level=TIMESTAMPS", "--trace-rate=1"], {})
    assert settings.remarks == (
        "--trace-rate is deprecated, use --trace-config",
        "nothing is traced without --trace-config triton,file=<path>",
    )


METRICS_CONFIG = {
    "metrics.counter_latencies",
    "metrics.histogram_latencies",
    "metrics.summary_latencies",
    "metrics.quantiles",
}
"""What `--metrics-config` sets."""


def test_every_setting_has_an_option_and_every_option_a_name_of_its_own() -> None:
    """`backends`, `cache`, `remarks` and `auto_complete` follow from several options together."""
    settings = Settings()
    places = {option.place for option in OPTIONS.values() if option.place}
    leaves = set()
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            leaves |= {f"{field.name}.{inner.name}" for inner in fields(value)}
        else:
            leaves.add(field.name)
    derived = {
        "http.policy",
        "grpc.policy",
        "backends",
        "cache",
        "remarks",
        "repository.auto_complete",
        *METRICS_CONFIG,
        *TRACE_CONFIG,
    }
    assert places == leaves - derived
    assert len(OPTIONS) == sum(len(group.options) for group in GROUPS)


def test_the_help_names_every_option_and_the_defaults_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    assert text == serve_help()
    for option in OPTIONS.values():
        assert f"--{option.name}" in text
    assert "Default: 67108864." in text
    assert default_of(OPTIONS["http-max-input-size"]) == 67108864


@pytest.mark.parametrize(
    ("words", "status", "stream", "text"),
    [
        ([], 0, "out", "deuteron serve --model-repository=<path>"),
        (["--help"], 0, "out", "Usage:"),
        (["--version"], 0, "out", f"deuteron {__version__}\n"),
        (["--http-port=1"], 1, "err", "Options belong to a command: deuteron serve"),
        (["start"], 1, "err", "No command 'start'."),
        (["serve", "--http-port=x"], 1, "err", 'Bad option: "--http-port".\nInvalid option value. Got x'),
    ],
)
def test_the_command_answers_on_the_right_stream(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, stream: str, text: str
) -> None:
    assert main(words) == status
    captured = capsys.readouterr()
    assert text in getattr(captured, stream)


def test_help_needs_nothing_heavy() -> None:
    """Whoever asks for help does not wait for numpy, aiohttp or grpc to be imported."""
    program = (
        "import sys; from deuteron.service.cli import main; main(['serve', '--help']);"
        "print(sorted({'numpy', 'aiohttp', 'grpc', 'asyncio', 'structlog', 'google'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_resources_are_counted_on_every_device_or_on_one(models: str) -> None:
    words = ["--rate-limit=execution_count", "--rate-limit-resource=r:4", "--rate-limit-resource=s:2:10"]
    settings = read_settings([models, *words], {})
    assert settings.rate_limit == RateLimitSettings(enabled=True, resources=(("r", 4, -1), ("s", 2, 10)))
    assert not settings.remarks


def test_resources_without_a_limit_are_remarked(models: str) -> None:
    settings = read_settings([models, "--rate-limit-resource=r:4", "--rate-limit=off"], {})
    assert settings.remarks == ("--rate-limit-resource has no effect without --rate-limit=execution_count",)
