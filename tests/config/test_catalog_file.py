"""The file that `catalog` names: its prices and limits apply, its faults are reported, and old prices cause a warning."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from gateway.catalog import CatalogPrices, ModelEntry, Overlay, VendorOverlay
from gateway.catalog.prices import price_of
from gateway.catalog.update import write_overlay
from gateway.config.catalog_file import old_prices
from gateway.config.load import Config, ConfigError, load, parse
from tests.support.each import each

YAML = """
catalog: catalog.json
providers:
  openai: { api_key: "${K}" }
  custom: { type: openai-compatible, base_url: "http://x/v1" }
models:
  new: openai/gpt-9
  old: openai/gpt-4o
  own: custom/c
"""
ENTRY = ModelEntry(context=1000, output=77, usd_per_million_tokens=CatalogPrices(input=1.5, output=3))
BUNDLED = date(2026, 7, 1)


def config_in(folder: Path, text: str = YAML, as_of: str = "2026-11-29") -> Config:
    """Return a configuration whose overlay has one new model, and one model of a vendor that the catalog lacks."""
    vendors = {"openai": VendorOverlay({"gpt-9": ENTRY}), "custom": VendorOverlay({"c": ENTRY})}
    write_overlay(folder / "catalog.json", Overlay("models.dev", as_of, vendors))
    (folder / "gateway.yaml").write_text(text)
    return load(folder / "gateway.yaml", environ={"K": "sk-some-credential"})


def test_newer_entries_have_prices(tmp_path: Path) -> None:
    providers = config_in(tmp_path).providers
    for provider, model in (("openai", "gpt-9"), ("custom", "c")):
        price = price_of(providers[provider], model)
        assert price is not None
        assert (price.prompt, price.output) == (1_500_000_000, 3_000_000_000)
    known = price_of(providers["openai"], "gpt-4o")
    assert known is not None
    assert known.prompt == 2_500_000_000


@each(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "catalog.json is unusable"),
        ("{}", "catalog.json is unusable"),
        ('{"source":"x","as_of":"2026-13-01","vendors":{}}', "catalog.json is unusable"),
        ('{"source":"x","as_of":"today","vendors":{}}', "catalog.json is unusable"),
        ('{"source":"x","as_of":"2026-11-29","vendors":{"openai":{"models":{"m":{"context":-1}}}}}', "catalog.json is unusable"),
    ],
)
def test_an_unusable_file_is_a_problem_of_the_configuration(
    tmp_path_factory: pytest.TempPathFactory, content: str | None, message: str
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    if content is not None:
        (folder / "catalog.json").write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        parse(YAML.encode(), str(folder / "gateway.yaml"), environ={"K": "sk-some-credential"})
    assert [problem.path for problem in error.value.problems] == ["catalog"]


def test_old_prices_are_a_warning_only_where_they_are_used(tmp_path: Path) -> None:
    bundled = parse(YAML.replace("catalog: catalog.json\n", "").encode(), "x.yaml", environ={"K": "sk-some-credential"})
    assert old_prices(bundled, date(2026, 9, 29)) == []
    assert old_prices(bundled, date(2026, 9, 30)) == [
        "the catalog's prices of openai/gpt-4o are 91 days old (2026-07-01): update them with `lockgate catalog update`"
    ]
    newer = config_in(tmp_path)
    assert old_prices(newer, date(2026, 12, 1)) == []
    assert "custom/c and 2 more are 91 days old (2026-11-29)" in old_prices(newer, date(2027, 2, 28))[0]
    priced = YAML.replace('api_key: "${K}"', 'api_key: "${K}", prices: { "*": { prompt: 1, output: 1 } }')
    (warning,) = old_prices(config_in(tmp_path, priced), date(2027, 2, 28))
    assert "prices of custom/c are" in warning
