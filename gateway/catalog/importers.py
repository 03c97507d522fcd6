"""Reads catalogs that others publish: models.dev's `api.json` and the data of genai-prices.

Sources: github.com/anomalyco/models.dev, packages/core/src/schema.ts (2026-07-02); github.com/pydantic/genai-prices,
prices/data.schema.json and prices/new_data/v2/data.schema.json (2026-08-21). Only prices, limits and features are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.catalog import CatalogRates, ModelEntry

Vendors = dict[str, dict[str, ModelEntry]]
MAX_PROBLEMS = 10
LEGACY_STEP = 200_000
"""The length that `context_over_200k` of models.dev stands for."""
_GENAI_VENDORS = {"x-ai": "xai", "together": "togetherai", "fireworks": "fireworks-ai"}
"""The catalog's names for vendors that have other names in genai-prices."""
_GENAI_RATES = {
    "input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cache_read", "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h", "input_audio_mtok": "input_audio", "output_audio_mtok": "output_audio",
    "output_reasoning_mtok": "reasoning", "input_image_mtok": "input_image", "output_image_mtok": "output_image",
}  # fmt: skip
_RATES = frozenset(CatalogRates.__struct_fields__)
_FLAGS = ("reasoning", "tool_call", "structured_output", "temperature", "attachment")
_decode = msgspec.json.Decoder().decode


class UnusableCatalogError(ValueError):
    """The file has no known format, no entry of a known vendor, or invalid entries."""


def read_catalog(data: bytes, vendors: frozenset[str], as_of: str) -> tuple[str, Vendors]:
    """Return the name of the source, and the entries of `vendors`. Raise UnusableCatalogError if the file is unusable.

    If the source dates its prices, the entries have the prices as of the day `as_of`.
    """
    try:
        whole = _decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UnusableCatalogError(f"it is not JSON: {error}") from None
    if isinstance(whole, dict) and whole and all(_has_models(each, dict) for each in whole.values()):
        return "models.dev", _read(_models_dev(whole), vendors)
    if isinstance(whole, list) and whole and all(_has_models(each, list) for each in whole):
        return "genai-prices", _read(_genai_prices(whole, as_of), vendors)
    raise UnusableCatalogError("it is neither the api.json of models.dev nor the data.json of genai-prices")


def _has_models(provider: Any, kind: type) -> bool:
    return isinstance(provider, dict) and isinstance(provider.get("models"), kind)


def _read(entries: Iterator[tuple[str, str, Any]], vendors: frozenset[str]) -> Vendors:
    """Return the entries by vendor and model, or raise an UnusableCatalogError that names the first invalid ones."""
    found: Vendors = {}
    problems: list[str] = []
    for vendor, model, entry in entries:
        if vendor in vendors:
            try:
                found.setdefault(vendor, {})[model] = msgspec.convert(entry(), ModelEntry)
            except (msgspec.ValidationError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError, StopIteration) as error:
                problems.append(f"{vendor}/{model}: {error}")
    if problems:
        more = f" (and {len(problems) - MAX_PROBLEMS} more)" if len(problems) > MAX_PROBLEMS else ""
        raise UnusableCatalogError("invalid entries: " + "; ".join(problems[:MAX_PROBLEMS]) + more)
    if not found:
        raise UnusableCatalogError("it has no entry of a known vendor")
    return found


def _models_dev(whole: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for vendor, provider in whole.items():
        for model, entry in provider["models"].items():
            yield vendor, model, lambda entry=entry: _from_models_dev(entry)


def _from_models_dev(source: dict[str, Any]) -> dict[str, Any]:
    limits = source.get("limit") or {}
    entry = {name: limits[name] for name in ("context", "input", "output") if limits.get(name)}
    entry |= {name: source[name] for name in (*_FLAGS, "status") if name in source}
    entry["input_modalities"] = (source.get("modalities") or {}).get("input") or ()
    cost = source.get("cost")
    if cost is not None:
        tiers = [tier for tier in cost.get("tiers") or () if tier["tier"].get("type", "context") == "context"]
        steps = [{"over": tier["tier"]["size"], **_known(tier)} for tier in tiers]
        if not steps and cost.get("context_over_200k"):
            steps = [{"over": LEGACY_STEP, **_known(cost["context_over_200k"])}]
        prices = {**_known(cost), "steps": sorted(steps, key=lambda step: step["over"])}
        modes = ((source.get("experimental") or {}).get("modes") or {}).values()
        tiers_by_name = {name: _known(mode["cost"]) for mode in modes if mode.get("cost") and (name := _tier_of(mode))}
        entry["usd_per_million_tokens"] = prices | ({"service_tiers": tiers_by_name} if tiers_by_name else {})
    return entry


def _known(cost: dict[str, Any]) -> dict[str, Any]:
    return {name: price for name, price in cost.items() if name in _RATES and price is not None}


def _tier_of(mode: dict[str, Any]) -> str | None:
    """Return the service tier of a mode, under the name that answers contain, or None if the mode has no tier."""
    body = (mode.get("provider") or {}).get("body") or {}
    tier = body.get("service_tier") or body.get("speed")
    return tier if isinstance(tier, str) else None


def _genai_prices(whole: list[dict[str, Any]], as_of: str) -> Iterator[tuple[str, str, Any]]:
    for provider in whole:
        vendor = _GENAI_VENDORS.get(str(provider.get("id")), str(provider.get("id")))
        for model in provider["models"]:
            if not isinstance(model, dict):
                yield vendor, "?", lambda model=model: model
                continue
            for name in {str(model.get("id")): None, **dict.fromkeys(_equals(model.get("match")))}:
                yield vendor, name, lambda model=model: _from_genai_prices(model, as_of)


def _equals(match: Any) -> Iterator[str]:
    """Yield the names that a condition matches exactly."""
    if isinstance(match, dict):
        if isinstance(match.get("equals"), str):
            yield match["equals"]
        others = match.get("or")
        for other in others if isinstance(others, list) else ():
            yield from _equals(other)


def _from_genai_prices(source: dict[str, Any], as_of: str) -> dict[str, Any]:
    entry = {"context": source["context_window"]} if source.get("context_window") else {}
    prices = source["prices"]
    if isinstance(prices, list):
        prices = next(each["prices"] for each in reversed(prices) if _has_begun(each.get("constraint"), as_of))
    base: dict[str, Any] = {}
    steps: dict[int, dict[str, Any]] = {}
    for name, price in prices.items():
        if (rate := _GENAI_RATES.get(name)) is None or price is None:
            continue
        base[rate] = _usd(price["base"] if isinstance(price, dict) else price)
        for tier in price.get("tiers") or () if isinstance(price, dict) else ():
            steps.setdefault(tier["start"], {})[rate] = _usd(tier["price"])
    if base:
        rates: dict[str, Any] = {}  # in this source, each kind has its own steps, so a step keeps the prices of the steps below it
        listed = [{"over": over, **(rates := rates | steps[over])} for over in sorted(steps)]
        entry["usd_per_million_tokens"] = {**base, "steps": listed}
    return entry


def _has_begun(constraint: Any, as_of: str) -> bool:
    """Return whether a price applies on a day. Prices for certain hours are left out; the others apply all day."""
    start = constraint.get("start_date") if isinstance(constraint, dict) else ""
    return constraint is None or (isinstance(start, str) and start <= as_of and "start_time" not in constraint)


def _usd(price: Any) -> float:
    """Return a price, which genai-prices may write as text."""
    return float(price)


def merged(known: ModelEntry | None, newer: ModelEntry) -> ModelEntry:
    """Return the newer entry, completed with the fields that only the known entry has: sources describe different fields.

    Known prices of other kinds of tokens are kept only if the prices of prompt and output have not changed.
    """
    if known is None:
        return newer
    given = {name: value for name in ModelEntry.__struct_fields__ if (value := getattr(newer, name)) not in (None, ())}
    prices, before = newer.usd_per_million_tokens, known.usd_per_million_tokens
    if prices is not None and before is not None and (prices.input, prices.output) == (before.input, before.output):
        rates = {name: value for name in _RATES if getattr(prices, name) is None and (value := getattr(before, name))}
        tiers = {**before.service_tiers, **prices.service_tiers}
        given["usd_per_million_tokens"] = msgspec.structs.replace(prices, **rates, service_tiers=tiers)
    return msgspec.structs.replace(known, **given)
