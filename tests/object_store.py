"""A real S3 API server in this process, and what tests do with its objects."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import obstore
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

BUCKET = "house"
ACCOUNT = "123456789012"
"""The one that the server takes everybody for."""
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class S3:
    """One server; what is in it outlives its outages."""

    def __init__(self) -> None:
        self._server: Any = None
        self.port = 0
        self.start()
        options: Any = {"allow_http": True}
        with mock.patch.dict(os.environ, CREDENTIALS):
            self.store = S3Store(
                BUCKET, endpoint=self.endpoint, virtual_hosted_style_request=False, client_options=options
            )

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, path: str = "models") -> str:
        """Return the address of a repository in the bucket, as Triton spells it."""
        return f"s3://{self.endpoint}/{BUCKET}/{path}"

    def start(self) -> None:
        """Open the server, at the port it had before."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def stop(self) -> None:
        """Be away."""
        self._server.stop()

    def make_bucket(self) -> None:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        )
        client.create_bucket(Bucket=BUCKET)

    def put(self, files: Mapping[str, bytes | str], path: str = "models") -> None:
        """Write objects beneath a repository."""
        for name, content in files.items():
            obstore.put(
                self.store, f"{path}/{name}", content.encode() if isinstance(content, str) else content
            )

    def delete(self, *names: str, path: str = "models") -> None:
        """Take objects away."""
        obstore.delete(self.store, [f"{path}/{name}" for name in names])


@contextmanager
def s3_server() -> Iterator[S3]:
    """Open an empty S3 for the length of the block."""
    from moto.s3.models import s3_backends

    s3_backends[ACCOUNT]["aws"].reset()
    server = S3()
    server.make_bucket()
    try:
        yield server
    finally:
        server.stop()
