"""What a provider's settings say about failing and waiting, held against each other: what would do nothing is a mistake."""

from __future__ import annotations

from gateway.config.problem import Problems, join
from gateway.config.provider import ProviderConfig
from gateway.config.types import Config, ModelConfig

PARTS = ("first_byte_timeout", "idle_timeout")
_DEFAULTS = ProviderConfig(name="")


def check_providers(config: Config, problems: Problems) -> None:
    """Deadlines and a cooldown within their own bounds, and a queue for something."""
    for name, provider in config.providers.items():
        path = join("providers", name)
        check_times(provider, path, problems)
        cooldown = provider.cooldown
        if cooldown.time > cooldown.max:
            problems.add_at_path(f"{path}.cooldown.time", f"longer than cooldown.max ({cooldown.max:g} s), which is the longest time: raise that")
        for key in ("max_queue", "max_wait"):
            if provider.max_concurrent is None and getattr(provider, key) != getattr(_DEFAULTS, key):
                problems.add_at_path(f"{path}.{key}", "nobody waits without max_concurrent: set that, too")


def check_times(settings: ProviderConfig | ModelConfig, path: str, problems: Problems) -> None:
    """What bounds a part is not longer than what bounds the whole."""
    whole = settings.timeout
    for name in PARTS:
        part = getattr(settings, name)
        if whole is not None and part is not None and part > whole and problems.is_written(f"{path}.{name}"):
            message = f"it is longer than timeout ({whole:g} s), which ends the call before: shorten it, or raise {path}.timeout"
            problems.add_at_path(f"{path}.{name}", message)
