"""Backends with the credential of a caller: only those of its provider, without headers of the operator's account."""

from __future__ import annotations

import providers
from gateway.config.secret import Secret
from gateway.targets.backend import Backend
from gateway.targets.brought import NOT_SENT, backend_with
from gateway.targets.registry import TargetRegistry
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Failure, Target

HEADERS = (("x-team", "search"), *((name, "ours") for name in sorted(NOT_SENT)))
TARGET = Target("up/m", "up", providers.get("openai"), "m", "https://up.example/v1", "ours", headers=HEADERS)
OTHER = Target("other/m", "other", providers.get("openai"), "m", "https://other.example/v1", "theirs")


def backend(*targets: Target) -> Backend:
    """Return a backend with these credentials."""
    return Backend(targets, Origin("https", "up.example", 443), None, Deadlines())  # type: ignore[arg-type]


def test_the_credential_replaces_all_of_ours_for_its_provider_only() -> None:
    own = backend_with(backend(TARGET, TARGET), {"up": Secret("brought")})
    assert [(target.credential, target.brought, target.headers) for target in own.targets] == [
        ("brought", True, (("x-team", "search"),))
    ]
    other = backend(OTHER)
    assert backend_with(other, {"up": Secret("brought")}) is other


def test_the_health_of_a_brought_credential_is_apart_from_ours() -> None:
    registry = TargetRegistry()
    own = backend_with(backend(TARGET), {"up": Secret("brought")}).target
    registry.health_of(TARGET)
    for kind in ("auth", "rate_limit", "quota", "server_error"):
        registry.health_of(own).record_failure(own, Failure(kind, "refused"), probe=False, took=0.0)  # type: ignore[arg-type]
    assert registry.is_live("up/m")
    assert [health.last_failure for health in registry.all()] == [None]
