"""Sessions of MCP servers, bound to the virtual key that opened them.

All callers share the gateway's credential at a server, so the server cannot tell them apart. The gateway therefore adds a mark of
the key to the id of a session. The mark needs no store, and every gateway with the same configuration accepts it.
"""

from __future__ import annotations

import hashlib
import hmac

from providers.base import Target

SESSION_HEADER = b"mcp-session-id"
_MARK_CHARS = 32


class Sessions:
    """The session ids of one server."""

    def __init__(self, target: Target) -> None:
        parts = [target.name, target.base_url, target.credential or "", *(text for header in sorted(target.headers) for text in header)]
        self._secret = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()

    def for_caller(self, owner: str, id: bytes) -> bytes:
        """Return the id that the caller gets for a session of the server. `owner` is the name of the caller's key."""
        return id + b"." + self._mark(owner, id)

    def for_server(self, owner: str, id: bytes) -> bytes | None:
        """Return the server's id of a session, or None if `id` does not have the mark of the key."""
        server_id, dot, mark = id.rpartition(b".")
        return server_id if dot and hmac.compare_digest(mark, self._mark(owner, server_id)) else None

    def _mark(self, owner: str, id: bytes) -> bytes:
        signed = len(id).to_bytes(4, "big") + id + owner.encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, signed, hashlib.sha256).hexdigest()[:_MARK_CHARS].encode()
