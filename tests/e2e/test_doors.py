"""A whole server behind doors that are chosen: TLS, a path, closed groups, headers for models."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from .house import ADDRESS, Server, launch, poll
from .wire import ask

Pick = Callable[..., Path]

LOCKED = "--http-restricted-api=model-repository,logging:admin-key=sesame"
LOCKED_GRPC = "--grpc-restricted-protocol=model-repository:admin-key=sesame"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for this machine, with its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"),
            *("-addext", f"subjectAltName=IP:{ADDRESS}"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "certificate.pem"


def test_closed_groups_open_with_their_header(serve: Callable[..., Server], pick: Pick) -> None:
    server = serve(pick("echo"), LOCKED, LOCKED_GRPC)
    index = "POST /v2/repository/index"
    assert ask(server.http, index).status == 403
    assert ask(server.http, index, headers={"Admin-Key": "sesame"}).status == 200
    assert ask(server.http, "GET /v2/models/echo").status == 200
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        with pytest.raises(
            InferenceServerException, match="expecting header 'triton-grpc-protocol-admin-key'"
        ):
            client.get_model_repository_index()
        key = {"triton-grpc-protocol-admin-key": "sesame"}
        assert client.get_model_repository_index(headers=key).models[0].name == "echo"
        assert client.is_model_ready("echo")


def test_grpc_over_tls_and_http_at_a_path(pick: Pick, certificate: Path, tmp_path: Path) -> None:
    """The log tells where it listens; the path is gone when the server is."""
    path, log = tmp_path / "http", tmp_path / "server.log"
    process = launch(
        log,
        *("serve", f"--model-repository={pick('echo')}", f"--http-address=unix:{path}", "--metrics-port=0"),
        *(f"--grpc-address={ADDRESS}", "--grpc-port=0", "--grpc-use-ssl=true"),
        *(f"--grpc-server-cert={certificate}", f"--grpc-server-key={certificate.parent / 'key.pem'}"),
    )
    try:
        poll(lambda: "Started HTTPService at" in log.read_text(), "the server listens", 60)
        assert f"Started HTTPService at unix:{path}" in log.read_text()
        port = log.read_text().split("Started GRPCInferenceService at ")[1].split()[0].rpartition(":")[2]
        with tritonclient.grpc.InferenceServerClient(
            f"{ADDRESS}:{port}", ssl=True, root_certificates=str(certificate)
        ) as client:
            assert client.is_model_ready("echo")
        if shutil.which("curl"):
            command = [
                "curl",
                "-sS",
                "--unix-socket",
                str(path),
                "http://here/v2/models/echo/ready",
                "-w",
                "%{http_code}",
            ]
            assert subprocess.run(command, check=True, capture_output=True).stdout == b"200"
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    assert not path.exists()
