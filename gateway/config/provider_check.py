"""What a provider's settings say about failing and waiting, held against each other: what would do nothing is a mistake."""

from __future__ import annotations

from gateway.config.problem import Problems, join
from gateway.config.types import Config, ProviderConfig

_DEFAULTS = ProviderConfig(name="")


def check_providers(config: Config, problems: Problems) -> None:
    """A cooldown within its own bound, and a queue for something."""
    for name, provider in config.providers.items():
        path = join("providers", name)
        cooldown = provider.cooldown
        if cooldown.time > cooldown.max:
            problems.at(f"{path}.cooldown.time", f"longer than cooldown.max ({cooldown.max:g} s), which is the longest time: raise that")
        for key in ("max_queue", "max_wait"):
            if provider.max_concurrent is None and getattr(provider, key) != getattr(_DEFAULTS, key):
                problems.at(f"{path}.{key}", "nobody waits without max_concurrent: set that, too")
