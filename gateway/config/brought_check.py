"""Checks of the providers for which keys may bring credentials."""

from __future__ import annotations

from gateway.config.key import KeyConfig
from gateway.config.problem import Problems, suggest
from gateway.config.types import Config

WITHOUT_CREDENTIAL = frozenset({"local"})
"""Types of providers that have no credential."""


def check_brought(config: Config, key: KeyConfig, where: str, problems: Problems) -> None:
    """Refuse unknown providers, providers that accept no credential, and a setting without effect."""
    for index, name in enumerate(key.bring_credentials):
        path, provider = f"{where}.bring_credentials[{index}]", config.providers.get(name)
        if provider is None:
            known = suggest(name, config.providers, "providers")
            problems.add_at_path(path, f"no provider {problems.source_text(path)} in this file{known}")
        elif provider.type in WITHOUT_CREDENTIAL:
            problems.add_at_path(path, f"a provider of type {provider.type} accepts no credential: remove it")
    if not key.budget_brought_credentials and not key.bring_credentials:
        problems.add_at_path(f"{where}.budget_brought_credentials", "has no effect without bring_credentials: remove it")
