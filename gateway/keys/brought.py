"""Checks of the credentials that callers bring: only those for providers that the key allows are accepted."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.secret import Secret
from gateway.dialects.credential_headers import CREDENTIAL_PREFIX
from gateway.errors import Forbidden
from gateway.keys.virtual_key import VirtualKey


def brought_credentials(key: VirtualKey | None, headers: Mapping[str, Secret]) -> dict[str, Secret]:
    """Return the credentials by provider. `headers` maps the end of each header's name to its credential.

    Raise Forbidden for a provider that the key does not allow.
    """
    allowed = {name.lower(): name for name in (key.bring_credentials if key is not None else ())}
    for name in headers:
        if name not in allowed:
            text = f"Header '{CREDENTIAL_PREFIX}{name[:64]}': callers with this key may not bring a credential for that provider."
            raise Forbidden(text, param=f"{CREDENTIAL_PREFIX}{name[:64]}", code="credential_not_allowed")
    return {allowed[name]: secret for name, secret in headers.items()}
