"""The health of all targets of a process, which outlives a reload; other instances are told of it and heard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from gateway.config.provider import ProviderConfig
from gateway.targets.cooldown import Reason
from gateway.targets.health import CooldownPublisher, TargetHealth
from providers.base import Target

MOST = 10_000
"""Targets whose health is kept: callers may make names up where `expose_targets` lets them."""


class TargetRegistry:
    """The health of all targets of the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.publish: CooldownPublisher = lambda name, credential, seconds, reason: None
        self.on_credential_refused: Callable[[], None] = lambda: None
        """Called once for a credential that an upstream refuses: its file may have another one by now."""
        self._doubted: set[tuple[str, str | None]] = set()
        self._targets: dict[str, TargetHealth] = {}
        self._providers: Mapping[str, ProviderConfig] = {}

    def configure(self, providers: Mapping[str, ProviderConfig]) -> None:
        """Follow another generation's settings; what is known of its targets stays, of others it is forgotten."""
        self._providers = providers
        self._doubted.clear()
        self._targets = {name: one for name, one in self._targets.items() if one.provider in providers or one.in_flight}
        for one in self._targets.values():
            if one.provider in providers:
                one.configure(providers[one.provider])

    def health_of(self, target: Target) -> TargetHealth:
        """The health of a target."""
        found = self._targets.get(target.name)
        if found is None:
            found = self._new(target.name, self._providers.get(target.provider))
        return found

    def apply_remote(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        """Another instance of the gateway found a target of ours wanting."""
        found, provider = self._targets.get(name), self._providers.get(name.partition("/")[0])
        if found is None and provider is not None:
            found = self._new(name, provider)
        if found is not None:
            found.apply_remote(credential, seconds, reason)

    def end_remote(self, name: str, credential: str | None, ago: float) -> None:
        """Another instance of the gateway found a target of ours back before its time."""
        found = self._targets.get(name)
        if found is not None:
            found.end_remote(credential, ago)

    def _new(self, name: str, provider: ProviderConfig | None) -> TargetHealth:
        found = TargetHealth(name, provider, self.clock, self._told)
        if len(self._targets) < MOST:
            self._targets[name] = found
        return found

    def is_live(self, name: str) -> bool:
        """Whether a target may be chosen as any other."""
        found = self._targets.get(name)
        return found is None or found.is_available

    def all(self) -> list[TargetHealth]:
        """Every target that a call went to."""
        return list(self._targets.values())

    def _told(self, name: str, credential: str | None, seconds: float, reason: Reason) -> None:
        self.publish(name, credential, seconds, reason)
        if reason == "auth" and seconds > 0 and (name, credential) not in self._doubted and len(self._doubted) < MOST:
            self._doubted.add((name, credential))
            self.on_credential_refused()
