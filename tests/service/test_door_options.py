"""What a command line says about the doors: who may use them, over what, and what goes to models."""

from pathlib import Path

import pytest

from deuteron.service.arguments import read_settings
from deuteron.service.policy import Group, Requirement
from deuteron.service.settings import Compression, Settings
from deuteron.service.values import OptionError


@pytest.fixture
def models(tmp_path: Path) -> str:
    return f"--model-repository={tmp_path}"


def settings(models: str, *words: str) -> Settings:
    return read_settings([models, *words], {})


def refusal(models: str, *words: str) -> str:
    with pytest.raises(OptionError) as caught:
        settings(models, *words)
    return str(caught.value)


def test_every_door_is_open_and_plain_by_default(models: str) -> None:
    default = settings(models)
    assert default.http.policy.requirements == default.grpc.policy.requirements == {}
    assert default.http.forward_pattern == default.grpc.forward_pattern == ""
    assert not default.http_tls.enabled
    assert not default.grpc_tls.enabled
    assert default.grpc.compression is Compression.NONE


def test_groups_are_closed_by_rules(models: str) -> None:
    found = settings(
        models,
        "--http-restricted-api=health,model-repository:admin-key=se=same",
        "--http-restricted-api=trace:other=",
        "--grpc-restricted-protocol=inference:k=v",
    )
    key = Requirement("admin-key", "se=same")
    assert found.http.policy.requirements == {
        Group.HEALTH: key,
        Group.MODEL_REPOSITORY: key,
        Group.TRACE: Requirement("other", ""),
    }
    assert found.grpc.policy.requirements == {Group.INFERENCE: Requirement("triton-grpc-protocol-k", "v")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--http-restricted-api=helth:k=v"], "unknown restricted api 'helth' "),
        (["--grpc-restricted-protocol=health,:k=v"], "unknown restricted protocol '' "),
        (
            ["--http-restricted-api=health:k=v", "--http-restricted-api=trace,health:l=w"],
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        (
            ["--grpc-restricted-protocol=health,health:k=v"],
            "restricted protocol 'health' can not be specified in multiple config groups",
        ),
        (
            ["--http-restricted-api=health"],
            "--http-restricted-api option format is '<config name>:<setting>=<value>'. Got health",
        ),
        (["--grpc-restricted-protocol=health:k"], "--grpc-restricted-protocol option format is"),
        (["--http-header-forward-pattern=("], "'(' is no regular expression"),
        (
            ["--grpc-infer-response-compression-level=x"],
            "invalid argument for --grpc_infer_response_compression_level",
        ),
        (["--http-use-ssl=true"], "--http-use-ssl needs --http-server-cert and --http-server-key"),
        (
            ["--grpc-use-ssl=true", "--grpc-server-cert=c"],
            "--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key",
        ),
        (
            ["--grpc-use-ssl-mutual=true", "--grpc-server-cert=c", "--grpc-server-key=k"],
            "--grpc-use-ssl-mutual needs --grpc-root-cert",
        ),
        (
            ["--http-address=unix:/x", "--grpc-address=unix:/x"],
            "HTTP requests and GRPC requests at the same address and port unix:/x",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_cannot_hold_is_refused_with_its_reason(models: str, words: list[str], message: str) -> None:
    assert message in refusal(models, *words)


def test_tls_takes_its_files_and_mutual_tls_is_tls(models: str) -> None:
    files = ["--grpc-server-cert=c", "--grpc-server-key=k", "--grpc-root-cert=r"]
    tls = settings(models, "--grpc-use-ssl-mutual=true", *files).grpc_tls
    assert (tls.enabled, tls.mutual) == (True, True)
    assert (tls.certificate, tls.key, tls.root) == (Path("c"), Path("k"), Path("r"))
    http = settings(models, "--http-use-ssl=1", "--http-server-cert=c", "--http-server-key=k").http_tls
    assert (http.enabled, http.certificate, http.key) == (True, Path("c"), Path("k"))


def test_patterns_and_levels_land_in_their_places(models: str) -> None:
    found = settings(
        models,
        "--http-header-forward-pattern=^x-",
        "--grpc-header-forward-pattern=y",
        "--grpc-infer-response-compression-level=HIGH",
    )
    assert (found.http.forward_pattern, found.grpc.forward_pattern) == ("^x-", "y")
    assert found.grpc.compression is Compression.HIGH


def test_metrics_stay_at_home_when_http_is_at_a_path(models: str) -> None:
    assert settings(models, "--http-address=unix:/x").metrics.address == "127.0.0.1"
    assert settings(models, "--http-address=unix:/x", "--metrics-address=::").metrics.address == "::"
