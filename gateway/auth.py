"""A bearer token becomes a VirtualKey, or 401."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping

import msgspec

from gateway.errors import Forbidden, Unauthorized


class VirtualKey(msgspec.Struct, frozen=True):
    """A credential that we issued. `expires` is unix seconds; `models` None allows every model."""

    name: str
    models: frozenset[str] | None = None
    disabled: bool = False
    expires: float | None = None
    strict: bool = False


class Keys:
    """The virtual keys of one configuration, found by the SHA-256 of what the caller sends.

    A lookup by digest takes the same time whatever the key: nothing about a key can be learned by measuring it.
    """

    def __init__(self, keys: Mapping[bytes, VirtualKey], *, open_to_all: bool) -> None:
        """`keys` by SHA-256 digest; `open_to_all` serves callers without a key."""
        self._keys = keys
        self._open = open_to_all

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> VirtualKey | None:
        """The caller's key, None where none is needed; Unauthorized or Forbidden otherwise. The key is never echoed."""
        if self._open:
            return None
        token = bearer(headers)
        if token is None:
            raise Unauthorized("No API key was sent. Send one as 'Authorization: Bearer KEY'.")
        key = self._keys.get(hashlib.sha256(token).digest())
        if key is None:
            raise Unauthorized("The API key that was sent is not known to this gateway.")
        if key.disabled:
            raise Forbidden(f"The key '{key.name}' is disabled.", code="key_disabled")
        if key.expires is not None and time.time() >= key.expires:
            raise Forbidden(f"The key '{key.name}' has expired.", code="key_expired")
        return key


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The token of the Authorization header, None when there is none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() or None if scheme.lower() == b"bearer" else None
    return None


def may_use(key: VirtualKey | None, model: str) -> bool:
    """Whether the key allows a model by the name that the caller used."""
    return key is None or key.models is None or model in key.models
