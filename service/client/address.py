"""Where a server is: the URL of a client, which names the protocol as well."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from .errors import InvalidUrlError

DEFAULT_PORTS: Final = {"http": 8000, "https": 8000, "grpc": 8001, "grpcs": 8001}


@dataclass(frozen=True, slots=True)
class Address:
    """A protocol, a host and a port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL such as `localhost`, `localhost:8000` or `grpc://host`; raises InvalidUrlError."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise InvalidUrlError(f"{url!r} is no URL of a server: {error}") from None
        if parts.scheme not in DEFAULT_PORTS:
            known = ", ".join(DEFAULT_PORTS)
            raise InvalidUrlError(f"{url!r} has scheme {parts.scheme!r}; a client knows {known}")
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InvalidUrlError(f"{url!r} is no URL of a server: it is a scheme, a host and a port")
        return cls(parts.scheme, parts.hostname, DEFAULT_PORTS[parts.scheme] if port is None else port)

    @property
    def is_secure(self) -> bool:
        """Whether it takes TLS."""
        return self.scheme in ("https", "grpcs")

    @property
    def is_grpc(self) -> bool:
        """Whether the protocol is gRPC."""
        return self.scheme in ("grpc", "grpcs")

    @property
    def place(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"
