"""The virtual key: the credential of a caller, with the models and paths that it allows."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.config.key import DEFAULT_PRIORITY
from gateway.config.limit import LimitsConfig
from gateway.errors import WWW_AUTHENTICATE, Forbidden
from gateway.store.from_config import ModelLimits
from gateway.store.limit import Limit


class VirtualKey(msgspec.Struct, frozen=True, gc=False):
    """A key that this gateway issued, or the token of an issuer that the gateway accepts.

    `expires` is a Unix time in seconds. `limits` are those of the key and of its team.
    """

    name: str
    models: frozenset[str] | None = None
    """Names and patterns of the models that the key allows. None allows all models."""
    passthrough: frozenset[str] | None = None
    """Patterns of passed paths that the key allows. None allows all patterns."""
    disabled: bool = False
    expires: float | None = None
    strict: bool = False
    team: str = ""
    limits: tuple[Limit, ...] = ()
    model_limits: ModelLimits = ()
    """Limits of the key and of its team for single models."""
    limits_per_user: LimitsConfig | None = None
    """Limits for each end user, or None."""
    bring_credentials: frozenset[str] = frozenset()
    """The providers for which callers may bring their own credential."""
    budgets_brought: bool = True
    """Whether spend on credentials that callers bring counts towards budgets."""
    requires_end_user: bool = False
    """Whether calls must name an end user."""
    policy: str | None = None
    """The policy that applies to a token; None for a key."""
    end_user: str = ""
    """The end user that a token names."""
    tags: tuple[str, ...] = ()
    """Tags of all calls."""
    captures_content: bool = False
    """Whether the content of calls is kept in their records."""
    priority: int = DEFAULT_PRIORITY
    """The weight of the key in the queues of targets."""
    replaced_until: float | None = None
    """For a secret that a rotation replaced, the Unix time in seconds at which its grace period ends."""


class KeyRejectedError(Forbidden):
    """The credential is known, but its key is disabled or has expired, or a rotation has replaced the secret.

    The records of such calls name the key.
    """

    def __init__(self, message: str, key: VirtualKey, *, code: str) -> None:
        super().__init__(message, code=code)
        self.key = key


class SecretReplacedError(KeyRejectedError):
    """The key is valid, but a rotation has replaced this secret, and the grace period has ended."""

    status = 401

    def __init__(self, key: VirtualKey) -> None:
        text = f"This secret of the key '{key.name}' was replaced and is no longer valid. Use the new secret of the key."
        super().__init__(text, key, code="key_replaced")
        self.headers = WWW_AUTHENTICATE


def may_use(key: VirtualKey | None, model: str) -> bool:
    """Return whether the key allows the model name that the caller sent."""
    return key is None or key.models is None or matches_any(model, key.models)


def limits_for(key: VirtualKey, model: str) -> tuple[Limit, ...]:
    """Return the limits of a key and its team for calls that ask for this model."""
    limits = key.limits
    for pattern, own in key.model_limits:
        if matches_any(model, (pattern,)):
            limits += own
    return limits


def may_pass(key: VirtualKey | None, pattern: str) -> bool:
    """Return whether the key allows the paths of a pattern of `passthrough`."""
    return key is None or key.passthrough is None or matches_any(pattern, key.passthrough)


def matches_any(model: str, patterns: Iterable[str]) -> bool:
    """Return whether `patterns` contains the name `model` or a matching prefix pattern such as `claude-3-*`."""
    if model in patterns or "*" in patterns:
        return True
    return any(each.endswith("*") and model.startswith(each[:-1]) for each in patterns)
