"""Certificates and keys: read once when a door opens, and what is said of those that do not fit."""

import ssl
from pathlib import Path

from ..proto.errors import InferError, invalid
from .settings import TlsSettings


def read_pem(path: Path) -> bytes:
    """Return what a PEM file holds; raises InferError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(f"cannot read '{path}': {error.strerror or error}") from None


def read_root(path: Path) -> bytes:
    """Return the certificates that vouch for clients; raises InferError for a file that holds none."""
    pem = read_pem(path)
    try:
        ssl.create_default_context(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise invalid(f"cannot use root certificate '{path}': {error}") from None
    return pem


def server_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the TLS of a server; raises InferError where certificate and key are not what they should be."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert tls.certificate is not None
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise _unfit(tls, error) from None
    return context


def _no_password() -> str:
    """Refuse to ask whoever sits at the terminal for the password of a key."""
    raise ValueError("the key is locked with a password")


def _unfit(tls: TlsSettings, error: Exception) -> InferError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return invalid(f"cannot use certificate '{tls.certificate}' with key '{tls.key}': {reason}")
