"""Who this server is to a provider: Triton's variables and file, and else the provider's own variables.

`TRITON_CLOUD_CREDENTIAL_PATH` names a JSON file with an entry for each kind of store, and in it one for each
beginning of an address; the longest that fits is taken. Without it the client library looks where the
provider's own tools look: variables, profiles, the machine's role.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ...proto.errors import invalid
from .address import Address, Kind

VARIABLE: Final = "TRITON_CLOUD_CREDENTIAL_PATH"

_S3_NAMES: Final = {
    "key_id": "aws_access_key_id",
    "secret_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "aws_region",
}


def credentials_of(address: Address, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the store's client is to be told besides its own environment; raises InferError."""
    path = environment.get(VARIABLE, "")
    given = _entry(Path(path), address) if path else None
    match address.kind:
        case Kind.S3 if isinstance(given, dict):
            return {
                _S3_NAMES[name]: str(value) for name, value in given.items() if name in _S3_NAMES and value
            }
        case Kind.GOOGLE if isinstance(given, str) and given:
            return {"google_service_account": given}
        case Kind.AZURE:
            key = given.get("account_key", "") if isinstance(given, dict) else ""
            key = key or environment.get("AZURE_STORAGE_KEY", "")
            return {"azure_storage_account_key": key} if key else {}
    return {}


def _entry(path: Path, address: Address) -> Any:  # noqa: ANN401 - a part of a JSON document
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise invalid(f"cannot use the credentials in '{path}', which {VARIABLE} names: {error}") from None
    entries = document.get(address.kind.value) if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        return None
    fitting = [beginning for beginning in entries if address.text.startswith(beginning)]
    return entries[max(fitting, key=len)] if fitting else None
