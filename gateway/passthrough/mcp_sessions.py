"""Ids of MCP sessions and of events, bound to the virtual key that received them.

All callers share the gateway's credential at a server, so the server cannot tell them apart. The gateway therefore adds a mark of
the key to the id of a session and to the id of each event, which a client sends to resume a stream. The mark needs no store, and
every gateway with the same configuration accepts it, if the configuration contains a secret.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Iterable

from gateway.config.types import Config
from providers.base import Target

SESSION_HEADER = b"mcp-session-id"
EVENT_HEADER = b"last-event-id"
_MARK_CHARS = 32
_MIN_SECRET_CHARS = 16
"""Minimum length of a secret that a caller cannot guess. Shorter ones are often placeholders."""


class Sessions:
    """The ids of sessions and events of one server."""

    def __init__(self, target: Target, salt: bytes = b"") -> None:
        """`salt` is a secret that no caller knows. It is used if the credential of the server is shorter than 16 characters."""
        credential = target.credential or ""
        parts = [target.name, target.base_url, credential, *(text for header in sorted(target.headers) for text in header)]
        if len(credential) >= _MIN_SECRET_CHARS:
            salt = b""
        self._secret = hashlib.sha256(_joined(part.encode("utf-8", "surrogatepass") for part in parts) + salt).digest()

    def for_caller(self, owner: str, id: bytes) -> bytes:
        """Return the id that the caller gets for a session of the server. `owner` is the name of the caller's key."""
        return id + b"." + self._mark(b"session", owner, id)

    def for_server(self, owner: str, id: bytes) -> bytes | None:
        """Return the server's id of a session, or None if `id` does not have the mark of the key."""
        return self._unmarked(id, b"session", owner)

    def event_for_caller(self, owner: str, session: bytes, id: bytes) -> bytes:
        """Return the id that the caller gets for an event of a session. `session` is the server's id, or b"" without a session."""
        return id + b"." + self._mark(b"event", owner, id.strip(b" \t"), session)

    def event_for_server(self, owner: str, session: bytes, id: bytes) -> bytes | None:
        """Return the server's id of an event, or None if `id` does not have the mark of the key and the session."""
        return self._unmarked(id, b"event", owner, session)

    def _unmarked(self, id: bytes, kind: bytes, owner: str, *more: bytes) -> bytes | None:
        server_id, dot, mark = id.rpartition(b".")
        return server_id if dot and hmac.compare_digest(mark, self._mark(kind, owner, server_id, *more)) else None

    def _mark(self, kind: bytes, owner: str, *ids: bytes) -> bytes:
        signed = _joined((kind, owner.encode("utf-8", "surrogatepass"), *ids))
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()[:_MARK_CHARS].encode()


def salt_of(config: Config) -> bytes:
    """Return a digest of secrets of the configuration that no caller knows, for the marks of servers without a credential.

    The credentials of the providers, the hash of the admin key and the password of the store rarely change. Without any of these, the
    hashes of the virtual keys are used: a caller knows only the hash of its own key. A configuration without any secret has a random
    salt in each process.
    """
    secrets = [secret.reveal() for name in sorted(config.providers) for secret in config.providers[name].api_key]
    secrets += [secret.reveal() for secret in config.store_password]
    secrets += [config.admin.key_hash] if config.admin.key_hash else []
    secrets = [secret for secret in secrets if len(secret) >= _MIN_SECRET_CHARS]
    if not secrets:
        secrets = sorted(key.hash for key in config.keys.values() if key.hash)
    if not secrets:
        return _random_salt()
    return hashlib.sha256(_joined(secret.encode("utf-8", "surrogatepass") for secret in secrets)).digest()


@functools.cache
def _random_salt() -> bytes:
    return os.urandom(32)


def _joined(parts: Iterable[bytes]) -> bytes:
    """Return parts, each preceded by its length, so that different parts never give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
