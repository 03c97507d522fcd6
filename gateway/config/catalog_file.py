"""Reads newer catalog entries from the file that `catalog` names, and warns about old prices."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from msgspec.structs import replace

from gateway import catalog
from gateway.catalog import Overlay
from gateway.config.files import Files
from gateway.config.problem import Problems
from gateway.config.provider import ProviderConfig
from gateway.config.route import refs
from gateway.config.types import Config

MAX_AGE_DAYS = 90
"""Age of prices in days after which `lockgate check` warns."""


def with_overlay(config: Config, files: Files, problems: Problems) -> Config:
    """Return the configuration with the entries of its catalog file. Report an unusable file, and ignore it."""
    if not isinstance(config.catalog, str):
        return config
    try:
        overlay = catalog.read_overlay(files.text(Path(config.catalog)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add_at_path("catalog", f"{config.catalog} is unusable: {reason}. `lockgate catalog update` writes such a file")
        return config
    known = {name: _updated(provider, overlay) for name, provider in config.providers.items()}
    return replace(config, providers=known)


def _updated(provider: ProviderConfig, overlay: Overlay) -> ProviderConfig:
    return replace(provider, overlay=overlay) if isinstance(provider, ProviderConfig) else provider


def old_prices(config: Config, today: date) -> list[str]:
    """Return a warning for each date, more than MAX_AGE_DAYS ago, of prices in the catalog at which targets are charged."""
    used: dict[str, set[str]] = {}
    for model in config.models.values():
        for ref in refs(model.targets):
            provider = config.providers.get(ref.provider or "")
            if provider is not None and (as_of := _price_date(provider, ref.model)) is not None:
                used.setdefault(as_of, set()).add(str(ref))
    warnings = []
    for as_of, targets in sorted(used.items()):
        days = (today - date.fromisoformat(as_of)).days
        if days > MAX_AGE_DAYS:
            first, *others = sorted(targets)
            names = first if not others else f"{first} and {len(others)} more"
            warnings.append(f"the catalog's prices of {names} are {days} days old ({as_of}): update them with `lockgate catalog update`")
    return warnings


def _price_date(provider: ProviderConfig, model: str) -> str | None:
    """Return the date of a model's price in the catalog, or None if the model is not charged at a price in the catalog."""
    if provider.type == "local" or model in provider.prices or "*" in provider.prices:
        return None
    entry = catalog.find(provider.type, model, provider.name, provider.overlay)
    if entry is None or entry.usd_per_million_tokens is None:
        return None
    for vendor in catalog.vendor_names(provider.type, provider.name):
        if provider.overlay is not None and vendor in provider.overlay.vendors:
            return provider.overlay.as_of
        if (bundled := catalog.vendor_catalog(vendor)) is not None:
            return bundled.as_of
    return None
