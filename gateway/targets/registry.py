"""The health of all targets of a process. It survives a reload and can be shared with other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from gateway.config.provider import ProviderConfig
from gateway.targets.cooldown import Reason
from gateway.targets.health import CooldownPublisher, TargetHealth
from providers.base import Target

MAX_TARGETS = 10_000
"""Maximum number of targets whose health is kept. With `expose_targets`, callers can invent names."""


class TargetRegistry:
    """The health of all targets of the process, by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.publish: CooldownPublisher = lambda name, credential, seconds, reason: None
        self.on_credential_refused: Callable[[], None] = lambda: None
        """Called once for each credential that an upstream refuses, because the file of the credential may contain a new one."""
        self._refused: set[tuple[str, str | None]] = set()
        self._targets: dict[str, TargetHealth] = {}
        self._providers: Mapping[str, ProviderConfig] = {}
        self._replicas: Mapping[str, tuple[str, ...]] = {}

    def configure(self, providers: Mapping[str, ProviderConfig]) -> None:
        """Apply the settings of a new generation. Targets of removed providers are dropped unless they have calls in flight."""
        self._providers = providers
        self._refused.clear()
        self._targets = {
            name: health for name, health in self._targets.items() if health.provider in providers or health.in_flight
        }
        for health in self._targets.values():
            if health.provider in providers:
                health.configure(providers[health.provider])

    def health_of(self, target: Target) -> TargetHealth:
        """Return the health of a target. If the caller brought the credential, return a new object that is not kept.

        Failures, rate limits and calls with such a credential must not affect the health of the target with the
        gateway's own credentials.
        """
        if target.brought:
            return TargetHealth(target.name, None, self.clock, lambda name, credential, seconds, reason: None)
        health = self._targets.get(target.name)
        if health is None:
            health = self._new(target.name, self._providers.get(target.provider))
            health.is_replica = bool(target.shared_name)
        return health

    def apply_remote(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        """Apply a cooldown reported by another process."""
        health, provider = self._targets.get(name), self._providers.get(name.partition("/")[0])
        if health is None and provider is not None:
            health = self._new(name, provider)
        if health is not None:
            health.apply_remote(credential, seconds, reason)

    def end_remote(self, name: str, credential: str | None, ago: float) -> None:
        """Apply a recovery that another process reported `ago` seconds ago."""
        health = self._targets.get(name)
        if health is not None:
            health.end_remote(credential, ago)

    def _new(self, name: str, provider: ProviderConfig | None) -> TargetHealth:
        health = TargetHealth(name, provider, self.clock, self._on_cooldown)
        if len(self._targets) < MAX_TARGETS:
            self._targets[name] = health
        return health

    def is_live(self, name: str) -> bool:
        """Return whether a call may be sent to the target. A target without a health record counts as live."""
        health = self._targets.get(name)
        return health is None or health.is_available

    def keep_replicas(self, addresses: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Drop replicas that are not among the addresses of their provider and have no calls in flight. Return their names."""
        self._replicas = addresses
        dropped = [health.name for health in self._targets.values() if self._is_removed(health)]
        for name in dropped:
            del self._targets[name]
        return dropped

    def all(self) -> list[TargetHealth]:
        """Return the health of every target that was called or probed, or whose cooldown another process reported.

        A replica that its provider no longer has is left out unless it has calls in flight.
        """
        return [health for health in self._targets.values() if not self._is_removed(health)]

    def _is_removed(self, health: TargetHealth) -> bool:
        if health.in_flight:
            return False
        addresses = self._replicas.get(health.provider)
        return health.is_replica if addresses is None else not health.name.endswith(_suffixes(addresses))

    def _on_cooldown(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        self.publish(name, credential, seconds, reason)
        if reason == "auth" and seconds > 0 and (name, credential) not in self._refused and len(self._refused) < MAX_TARGETS:
            self._refused.add((name, credential))
            self.on_credential_refused()


def _suffixes(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"@{address}" for address in addresses)
