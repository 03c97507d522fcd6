"""Authentication: finds the virtual key for the API key or token of a request, or rejects the request."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping

from gateway.errors import Unauthorized, Unavailable
from gateway.keys.token_callers import SigningKeyUnknownError, TokenCallers, is_token
from gateway.keys.virtual_key import KeyRejectedError, SecretReplacedError, VirtualKey

_KEY_IN_QUERY = re.compile(rb"(?:^|&)(?:[a-z-]*_?)?(?:key|token|authorization)=", re.IGNORECASE)
KEY_HEADERS = (b"x-api-key", b"api-key", b"x-goog-api-key")
"""The headers in which the clients of Anthropic, Azure and Gemini send their key."""


class Keys:
    """The virtual keys of one configuration and the run-time keys, indexed by SHA-256 digest.

    Lookups are by digest, so their duration reveals nothing about a key.
    """

    def __init__(
        self,
        keys: Mapping[bytes, VirtualKey],
        *,
        open_to_all: bool,
        clock: Callable[[], float] = time.time,
        tokens: TokenCallers | None = None,
    ) -> None:
        """`keys` maps SHA-256 digests to keys. With `open_to_all`, calls need no key. `clock` returns the Unix time.

        `tokens` accepts the signed tokens of issuers.
        """
        self._clock = clock
        self.tokens = tokens
        self._configured = keys
        self._runtime_keys: Mapping[bytes, VirtualKey] = {}
        self._used: dict[bytes, VirtualKey] = {}
        """The keys that have been looked up."""
        self.open_to_all = open_to_all
        self._is_complete = True

    def set_runtime_keys(self, runtime_keys: Mapping[bytes, VirtualKey], *, complete: bool = True) -> None:
        """Replace the run-time keys. The configuration's keys take precedence.

        If `complete` is false, the key store has not been read yet, and an unknown key may be valid.
        """
        self._runtime_keys = runtime_keys
        self._used = {}
        self._is_complete = complete

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> VirtualKey | None:
        """Return the caller's key, or None if no key is required. Raise GatewayError if the caller is rejected.

        `query` is searched only to explain that keys in the URL are not accepted. Messages never contain the key. Raise
        SigningKeyUnknownError if a token can be verified only after its issuer's keys have been fetched; `identify` waits
        for the fetch.
        """
        if self.open_to_all:
            return None
        token = api_key(headers)
        if token is None and _KEY_IN_QUERY.search(query):
            raise Unauthorized("API keys in the URL are rejected because URLs are logged. Send 'Authorization: Bearer KEY'.")
        if token is None:
            has_header = any(name == b"authorization" for name, _ in headers)
            what = "The Authorization header is not 'Bearer KEY'" if has_header else "The API key is missing"
            raise Unauthorized(f"{what}. Send 'Authorization: Bearer KEY' or 'x-api-key: KEY'.")
        digest = hashlib.sha256(token).digest()
        key = self._used.get(digest) or self._find(digest)
        if key is None and self.tokens is not None and is_token(token):
            return self.tokens.authenticate(token, digest)
        if key is None and not self._is_complete:
            text = "The API key cannot be verified: the key store is unavailable. Try again later."
            raise Unavailable(text, code="keys_unavailable", retry_after=1.0)
        if key is None:
            raise Unauthorized("The API key is unknown. Ask the operator for a valid key.")
        if key.disabled:
            whose = f"The key '{key.name}' or its team '{key.team}'" if key.team else f"The key '{key.name}'"
            gone = ", or the team does not exist" if key.team else ""
            raise KeyRejectedError(f"{whose} is disabled{gone}. Ask the operator for access.", key, code="key_disabled")
        if key.expires is not None and (now := self._clock()) >= key.expires:
            if key.replaced_until is not None and now >= key.replaced_until:
                raise SecretReplacedError(key)
            raise KeyRejectedError(f"The key '{key.name}' has expired. Ask the operator for a new key.", key, code="key_expired")
        return key

    def _find(self, digest: bytes) -> VirtualKey | None:
        key = self._configured.get(digest) or self._runtime_keys.get(digest)
        if key is not None:
            self._used[digest] = key
        return key

    async def identify(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> VirtualKey | None:
        """Return the caller's key as `authenticate` does. If a token's signing key is unknown, first fetch the issuer's keys."""
        try:
            return self.authenticate(headers, query)
        except SigningKeyUnknownError as error:
            await error.source.refreshed()
        try:
            return self.authenticate(headers, query)
        except SigningKeyUnknownError as error:
            raise error.refusal from None


def api_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer token of the Authorization header, else the value of a header in KEY_HEADERS, or None."""
    key: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            if value[:7] == b"Bearer " and (token := value[7:].strip()):  # the usual spelling
                return token
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and (token := token.strip()):
                return token
        elif name in KEY_HEADERS:
            key = value.strip() or None
    return key


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer token of the Authorization header, or None."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() or None if scheme.lower() == b"bearer" else None
    return None
