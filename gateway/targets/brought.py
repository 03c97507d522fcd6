"""Credentials that callers bring for a provider.

Such credentials go to that provider only, and the gateway's own state never depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from gateway.config.secret import Secret
from gateway.targets.backend import Backend
from gateway.targets.candidate import Candidate

NOT_SENT = frozenset({
    "authorization", "api-key", "x-api-key", "x-goog-api-key", "openai-organization", "openai-project",
})  # fmt: skip
"""Configured headers that belong to the operator's account and are not sent with the credential of a caller."""


def with_brought(candidates: Sequence[Candidate], credentials: Mapping[str, Secret]) -> list[Candidate]:
    """Return the candidates, with the caller's credential for each provider for which the caller brought one."""
    return [
        structs.replace(candidate, backend=backend_with(candidate.backend, credentials))
        if candidate.backend.target.provider in credentials
        else candidate
        for candidate in candidates
    ]


def brought_later(
    alternates: Callable[[], list[Candidate]], credentials: Callable[[], Mapping[str, Secret]]
) -> Callable[[], list[Candidate]]:
    """Return a function that calls `alternates` and then adds the credentials, which may become known only after this wrapping."""
    return lambda: with_brought(alternates(), credentials())


def backend_with(backend: Backend, credentials: Mapping[str, Secret]) -> Backend:
    """Return the backend with the caller's credential as its only one, or the same backend if the caller brought none for its provider."""
    target = backend.target
    credential = credentials.get(target.provider)
    if credential is None:
        return backend
    headers = tuple((name, value) for name, value in target.headers if name not in NOT_SENT)
    own = structs.replace(target, credential=credential.reveal(), headers=headers, brought=True)
    return structs.replace(backend, targets=(own,))
