"""Checks of timeouts, and of a provider's cooldown, queue, passed fields, discovery, load metrics and replicas.

A setting without effect is reported as a mistake.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import providers
from gateway.config.model import ModelConfig
from gateway.config.problem import Problems, join
from gateway.config.provider import ProviderConfig
from gateway.config.types import Config
from gateway.upstream.resolver import literal_address

PARTIAL_TIMEOUTS = ("first_byte_timeout", "idle_timeout")
NOT_PASSED = frozenset({
    "model", "messages", "stream", "n", "system_prompt", "include_stop_str_in_output", "timeout_microseconds",
    "context_length_exceeded_behavior", "prompt_truncate_len",
})  # fmt: skip
"""Fields that the gateway reads and adapts itself, so that `pass` cannot name them."""
_DEFAULTS = ProviderConfig(name="")


def check_providers(config: Config, problems: Problems) -> None:
    """Check each provider's timeouts, cooldown, queue, passed fields, discovery, load metrics and replicas."""
    for name, provider in config.providers.items():
        path = join("providers", name)
        check_times(provider, path, problems)
        cooldown = provider.cooldown
        if cooldown.time > cooldown.max:
            problems.add_at_path(
                f"{path}.cooldown.time",
                f"longer than cooldown.max ({cooldown.max:g} s): lower this value, or raise cooldown.max",
            )
        for index, field in enumerate(provider.pass_fields):
            if not field.strip():
                problems.add_at_path(f"{path}.pass[{index}]", "expected the name of a field, got nothing")
            elif field in NOT_PASSED:
                problems.add_at_path(f"{path}.pass[{index}]", f"'{field}' cannot be passed: the gateway adapts it for every provider")
        if provider.discovery is not None and providers.get(provider.type).models_path("") is None:
            problems.add_at_path(f"{path}.discover", f"{provider.type} has no list of callable models: name them under models")
        if provider.load_metrics != _DEFAULTS.load_metrics and not providers.get(provider.type).load_gauges:
            problems.add_at_path(f"{path}.load_metrics", "requires type: vllm, the only type whose servers report their load")
        if provider.replicas is not None:
            _check_replicas(provider, path, problems)
        for key in ("max_queue", "max_wait"):
            if provider.max_concurrent is None and getattr(provider, key) != getattr(_DEFAULTS, key):
                problems.add_at_path(f"{path}.{key}", "requires max_concurrent")


def _check_replicas(provider: ProviderConfig, path: str, problems: Problems) -> None:
    if provider.base_url is None:
        problems.add_at_path(f"{path}.replicas", "requires base_url, whose host has the addresses")
    elif literal_address(urlsplit(provider.base_url).hostname or "", 0) is not None:
        problems.add_at_path(f"{path}.replicas", "requires a host name in base_url, not an address")
    if provider.transport != "native" or provider.proxy is not None:
        message = "cannot be combined with a proxy or with transport: httpx, which resolve names themselves"
        problems.add_at_path(f"{path}.replicas", message)


def check_times(settings: ProviderConfig | ModelConfig, path: str, problems: Problems) -> None:
    """Refuse a timeout for a part of a call that the file sets to more than `timeout`, the maximum for the whole call or attempt."""
    total = settings.timeout
    for name in PARTIAL_TIMEOUTS:
        part = getattr(settings, name)
        if total is not None and part is not None and part > total and problems.is_written(f"{path}.{name}"):
            message = f"longer than timeout ({total:g} s), which ends the call first: lower this value, or raise {path}.timeout"
            problems.add_at_path(f"{path}.{name}", message)
