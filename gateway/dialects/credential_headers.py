"""The headers `x-gateway-credential-PROVIDER`, in which callers bring their own credential for a provider."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.config.secret import Secret
from gateway.errors import refuse

CREDENTIAL_PREFIX = "x-gateway-credential-"
MAX_CREDENTIAL_CHARS = 8192
_PREFIX = CREDENTIAL_PREFIX.encode()


def is_credential_header(name: bytes) -> bool:
    """Return whether the header contains a caller's credential for a provider."""
    return name.startswith(_PREFIX)


def read_credentials(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Secret]:
    """Return the credentials in the headers, by the name of the provider, with which the header's name ends.

    Raise BadRequest for an unusable credential or a repeated header.
    """
    found: dict[str, Secret] = {}
    for name, value in headers:
        if not name.startswith(_PREFIX):
            continue
        param = name.decode("latin-1")[:128]
        provider, text = param.removeprefix(CREDENTIAL_PREFIX), value.decode("latin-1").strip()
        if provider in found:
            raise refuse(param, f"Header '{param}' is repeated. Send it once.")
        if not text or len(text) > MAX_CREDENTIAL_CHARS or not all("!" <= letter <= "~" for letter in text):
            raise refuse(param, f"Header '{param}' must be a credential of printable ASCII without spaces.")
        found[provider] = Secret(text)
    return found
