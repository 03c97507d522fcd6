"""The key of a cached answer: a digest of the adapted upstream request, its target and the owner of the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from gateway.call import Call
from gateway.config.cache import Scope
from gateway.keys.virtual_key import VirtualKey
from providers.base import Target, WireRequest

FORMAT = "1"
"""Version of the digest and of the stored form. Answers in another form are not found."""
CREDENTIAL_HEADERS = frozenset({
    "authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256",
})  # fmt: skip
"""Headers that may differ between equal requests: the credentials of a provider are used in turn, and signatures contain the time."""

Owner = tuple[str, str]
"""The kind of an owner and its name."""


def owner_of(key: VirtualKey | None, scope: Scope) -> Owner:
    """Return the owner of the answers of a key. Callers without keys share one owner."""
    if scope == "global":
        return ("global", "")
    if key is None:
        return ("no key", "")
    return ("team", key.team) if scope == "team" and key.team else ("key", key.name)


def digest_of(owner: Owner, end_user: str, target: Target, request: WireRequest, set_by_hooks: Collection[str] = ()) -> str:
    """Return the SHA-256 digest of everything that an answer depends on, in hexadecimal.

    `set_by_hooks` has the names of the headers that hooks set. They count even if their names are those of credentials, because a hook
    may choose the credential by the caller.

    Each part except the last one, the body, is preceded by its length, so that different parts never give the same bytes.
    """
    headers = [header for header in request.headers if header[0] not in CREDENTIAL_HEADERS or header[0] in set_by_hooks]
    texts = [
        FORMAT, *owner, end_user,
        target.name, target.kind.type, target.model, target.base_url, repr(sorted(target.options.items())),
        request.method, request.path, str(len(headers)),
    ]  # fmt: skip
    for name, value in headers:
        texts += (name, value)
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    digest = hashlib.sha256(b"".join([len(part).to_bytes(8, "big") + part for part in parts]))
    digest.update(request.body)  # the last part needs no length
    return digest.hexdigest()


def digest_for(call: Call, scope: Scope, target: Target, request: WireRequest) -> str:
    """Return the digest of a call's request to a target."""
    set_by_hooks = call.hooks.header_names if call.hooks is not None else ()
    return digest_of(owner_of(call.key, scope), call.end_user, target, request, set_by_hooks)
