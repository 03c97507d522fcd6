"""A bearer token becomes a VirtualKey, or 401."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping

import msgspec

from gateway.config.limit import LimitsConfig
from gateway.errors import Forbidden, Unauthorized, Unavailable
from gateway.store.limit import Limit

_KEY_IN_QUERY = re.compile(rb"(?:^|&)(?:[a-z-]*_?)?(?:key|token|authorization)=", re.IGNORECASE)


class VirtualKey(msgspec.Struct, frozen=True):
    """A credential that we issued. `expires` is unix seconds; `models` None allows every model; `limits` are its own and its team's."""

    name: str
    models: frozenset[str] | None = None
    disabled: bool = False
    expires: float | None = None
    strict: bool = False
    team: str = ""
    limits: tuple[Limit, ...] = ()
    limits_per_user: LimitsConfig | None = None
    """For each value of the field `user`; None without any."""


class Keys:
    """The virtual keys of one configuration, found by the SHA-256 of what the caller sends.

    A lookup by digest takes the same time whatever the key: nothing about a key can be learned by measuring it.
    """

    def __init__(self, keys: Mapping[bytes, VirtualKey], *, open_to_all: bool) -> None:
        """`keys` by SHA-256 digest; `open_to_all` serves callers without a key."""
        self._written = keys
        self._keys = keys
        self.open_to_all = open_to_all
        self._complete = True

    def set_runtime_keys(self, made: Mapping[bytes, VirtualKey], *, complete: bool = True) -> None:
        """Take these keys, made at run time, besides the configuration's, which win; those joined before are gone.

        Not `complete`: where they are kept could not be asked yet, so that a key which is not known may be good.
        """
        self._keys = {**made, **self._written}
        self._complete = complete

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> VirtualKey | None:
        """The caller's key, None where none is needed; Unauthorized, Forbidden or Unavailable otherwise. The key is never echoed.

        `query` is looked at only to say that a key in it is not taken: addresses end up in logs.
        """
        if self.open_to_all:
            return None
        token = bearer_token(headers)
        if token is None and _KEY_IN_QUERY.search(query):
            raise Unauthorized("A key in the URL is not taken, as URLs end up in logs. Send it as 'Authorization: Bearer KEY'.")
        if token is None:
            raise Unauthorized("No API key was sent. Send one as 'Authorization: Bearer KEY'.")
        key = self._keys.get(hashlib.sha256(token).digest())
        if key is None and not self._complete:
            text = "The API key that was sent cannot be checked: the store of keys is out of reach."
            raise Unavailable(text, code="keys_unavailable", retry_after=1.0)
        if key is None:
            raise Unauthorized("The API key that was sent is not known to this gateway.")
        if key.disabled:
            raise Forbidden(f"The key '{key.name}' is disabled.", code="key_disabled")
        if key.expires is not None and time.time() >= key.expires:
            raise Forbidden(f"The key '{key.name}' has expired.", code="key_expired")
        return key


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The token of the Authorization header, None when there is none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() or None if scheme.lower() == b"bearer" else None
    return None


def may_use(key: VirtualKey | None, model: str) -> bool:
    """Whether the key allows a model by the name that the caller used."""
    return key is None or key.models is None or matches_any(model, key.models)


def matches_any(model: str, patterns: Iterable[str]) -> bool:
    """Whether a model's name, or all of a pattern's (`claude-3-*`), are among `patterns`."""
    return model in patterns or any(each.endswith("*") and model.startswith(each[:-1]) for each in patterns)
