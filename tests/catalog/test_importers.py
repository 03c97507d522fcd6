"""Catalogs that others publish become entries: models.dev's api.json and the data of genai-prices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.catalog import CatalogPrices, CatalogRates, CatalogStep, ModelEntry
from gateway.catalog.importers import UnusableCatalogError, merged, read_catalog
from tests.support.each import each

OPENAI = frozenset({"openai"})
GPT = {
    "id": "gpt-5.4", "reasoning": True, "tool_call": True, "attachment": True, "temperature": False,
    "modalities": {"input": ["text", "image"], "output": ["text"]}, "limit": {"context": 1_050_000, "input": 922_000, "output": 128_000},
    "cost": {
        "input": 2.5, "output": 15, "cache_read": 0.25, "context_over_200k": {"input": 5, "output": 22.5},
        "tiers": [{"input": 5, "output": 22.5, "cache_read": 0.5, "tier": {"type": "context", "size": 272_000}}],
    },
    "experimental": {"modes": {"fast": {"cost": {"input": 5, "output": 30}, "provider": {"body": {"service_tier": "priority"}}}}},
}  # fmt: skip


def models_dev(**models: Any) -> bytes:
    """Return an api.json with these models of OpenAI, and a model of another vendor."""
    return json.dumps({"openai": {"id": "openai", "models": models}, "other": {"models": {"x": {"cost": {"input": -1}}}}}).encode()


def genai(**prices: Any) -> bytes:
    """Return data of genai-prices with one model."""
    match = {"or": [{"equals": "gpt-5.4"}, {"equals": "gpt-5.4-2026-03-05"}, {"starts_with": "gpt-5.4-x"}]}
    models = [{"id": "gpt-5.4", "match": match, "context_window": 1_050_000, **prices}]
    return json.dumps([{"id": "openai", "models": models}, {"id": "other", "models": ["broken"]}]).encode()


def prices_of(data: bytes, model: str = "gpt-5.4", as_of: str = "2026-11-29") -> CatalogPrices | None:
    """Return the prices of a model in a file."""
    return read_catalog(data, OPENAI, as_of)[1]["openai"][model].usd_per_million_tokens


def test_entries_of_models_dev_have_limits_steps_and_tiers() -> None:
    source, vendors = read_catalog(models_dev(**{"gpt-5.4": GPT}), OPENAI, "2026-11-29")
    assert source == "models.dev"
    assert vendors == {
        "openai": {
            "gpt-5.4": ModelEntry(
                1_050_000, 922_000, 128_000,
                CatalogPrices(
                    input=2.5, output=15, cache_read=0.25,
                    steps=(CatalogStep(over=272_000, input=5, output=22.5, cache_read=0.5),),
                    service_tiers={"priority": CatalogRates(input=5, output=30)},
                ),
                reasoning=True, tool_call=True, temperature=False, attachment=True, input_modalities=("text", "image"),
            )
        }
    }  # fmt: skip
    old = models_dev(m={"cost": {"input": 1, "output": 2, "context_over_200k": {"input": 2}}, "limit": {"context": 0, "output": 0}})
    assert prices_of(old, "m") == CatalogPrices(input=1, output=2, steps=(CatalogStep(over=200_000, input=2),))
    assert prices_of(models_dev(m={}), "m") is None


def test_entries_of_genai_prices_have_steps_and_exact_names() -> None:
    tiered = {"base": 2.5, "tiers": [{"start": 272_000, "price": 5}]}
    rates = {"input_mtok": tiered, "output_mtok": 15, "cache_read_mtok": "0.25", "cache_write_1h_mtok": 4, "requests_kcount": 9}
    data = genai(prices=rates)
    source, vendors = read_catalog(data, OPENAI, "2026-11-29")
    assert source == "genai-prices"
    assert set(vendors["openai"]) == {"gpt-5.4", "gpt-5.4-2026-03-05"}
    for entry in vendors["openai"].values():
        assert entry.context == 1_050_000
        steps = (CatalogStep(over=272_000, input=5),)
        assert entry.usd_per_million_tokens == CatalogPrices(input=2.5, output=15, cache_read=0.25, cache_write_1h=4, steps=steps)


def test_each_kind_of_genai_prices_keeps_the_price_of_its_last_step() -> None:
    def tiered(base: float, *tiers: tuple[int, float]) -> dict[str, Any]:
        return {"base": base, "tiers": [{"start": start, "price": price} for start, price in tiers]}

    data = genai(prices={"input_mtok": tiered(1, (100, 2), (300, 3)), "output_mtok": tiered(10, (200, 20))})
    found = prices_of(data)
    assert found is not None
    assert found.steps == (
        CatalogStep(over=100, input=2), CatalogStep(over=200, input=2, output=20), CatalogStep(over=300, input=3, output=20),
    )  # fmt: skip


@each(("as_of", "price"), [("2026-08-31", 2), ("2026-09-01", 3), ("2027-01-01", 3)])
def test_prices_that_begin_later_do_not_apply_yet(as_of: str, price: float) -> None:
    listed = [
        {"prices": {"input_mtok": 2, "output_mtok": 10}},
        {"constraint": {"start_date": "2026-09-01"}, "prices": {"input_mtok": 3, "output_mtok": 15}},
        {"constraint": {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}, "prices": {"input_mtok": 1, "output_mtok": 1}},
    ]
    found = prices_of(genai(prices=listed), as_of=as_of)
    assert found is not None
    assert found.input == price


@each(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"[]", "neither"),
        (b"{}", "neither"),
        (b'{"openai": {}}', "neither"),
        (b'{"other": {"models": {"m": {}}}}', "no entry of a known vendor"),
        (models_dev(m={"cost": {"input": -1, "output": 1}}), "openai/m"),
        (models_dev(m={"cost": {"input": 1e9, "output": 1}}), "openai/m"),
        (models_dev(m={"cost": {"input": "1", "output": 1}}), "openai/m"),
        (models_dev(m={"cost": {"input": 1, "output": 1, "tiers": [{"input": 2}]}}), "openai/m"),
        (models_dev(m={"limit": {"context": -5}}), "openai/m"),
        (models_dev(m=7), "openai/m"),
        (genai(prices={"input_mtok": "free"}), "openai/gpt-5.4"),
        (genai(prices=[]), "openai/gpt-5.4"),
        (genai(), "openai/gpt-5.4"),
    ],
)
def test_an_unusable_file_is_named_with_its_fault(data: bytes, message: str) -> None:
    with pytest.raises(UnusableCatalogError, match=message):
        read_catalog(data, OPENAI, "2026-11-29")


def test_fields_that_only_the_known_entry_has_are_kept() -> None:
    known = ModelEntry(
        context=100, output=10, reasoning=True,
        usd_per_million_tokens=CatalogPrices(input=1, output=2, cache_write=1.25, service_tiers={"priority": CatalogRates(input=2)}),
    )  # fmt: skip
    same = merged(known, ModelEntry(context=200, usd_per_million_tokens=CatalogPrices(input=1, output=2, cache_read=0.1)))
    assert (same.context, same.output, same.reasoning) == (200, 10, True)
    tiers = {"priority": CatalogRates(input=2)}
    assert same.usd_per_million_tokens == CatalogPrices(input=1, output=2, cache_read=0.1, cache_write=1.25, service_tiers=tiers)
    dearer = merged(known, ModelEntry(usd_per_million_tokens=CatalogPrices(input=3, output=2)))
    assert dearer.usd_per_million_tokens == CatalogPrices(input=3, output=2)
    assert merged(None, known) is known
