"""The catalog: its files with source and date, their packaging, and the entries of models."""

from __future__ import annotations

import tomllib
from pathlib import Path

import providers
from gateway import catalog
from tests.support.each import each

ROOT = Path(__file__).parents[2]
FOLDER = Path(catalog.__file__).parent
FILES = sorted(FOLDER.glob("*.json"))


@each("path", FILES, ids=lambda path: path.stem)
def test_every_file_has_its_source_licence_and_date(path: Path) -> None:
    vendor = catalog.vendor_catalog(path.stem)
    assert vendor is not None
    assert (vendor.source, vendor.licence) == ("models.dev", "MIT")
    assert vendor.as_of == "2026-07-01"
    assert vendor.models
    for name, entry in vendor.models.items():
        for tokens in (entry.context, entry.input, entry.output):
            assert tokens is None or tokens > 0, name


def test_the_licence_and_all_files_are_packaged() -> None:
    assert "Copyright (c) 2025 models.dev" in (FOLDER / "LICENSE.models-dev").read_text()
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["gateway.catalog"]
    data = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert {path.name for pattern in packaged for path in FOLDER.glob(pattern)} == data


def test_a_model_has_its_window_output_cap_and_prices() -> None:
    entry = catalog.find("openai", "gpt-4o")
    assert entry is not None
    assert (entry.context, entry.output) == (128_000, 16_384)
    assert entry.usd_per_million_tokens is not None
    assert (entry.usd_per_million_tokens.input, entry.usd_per_million_tokens.output) == (2.5, 10.0)


def test_the_maximum_prompt_may_be_less_than_the_window() -> None:
    entry = catalog.find("openai", "gpt-5")
    assert entry is not None
    assert (entry.context, entry.input) == (400_000, 272_000)


@each(
    ("kind", "model", "provider"),
    [
        ("openai", "gpt-4o-2031-01-31", ""),
        ("gemini", "models/gemini-2.5-flash", ""),
        ("fireworks", "accounts/fireworks/models/glm-5p1", ""),
        ("together", "MiniMaxAI/MiniMax-M2.5", ""),
        ("openai-compatible", "sonar", "perplexity"),
    ],
    ids=["dated", "gemini", "fireworks", "together", "by-name"],
)
def test_models_are_found_by_the_names_that_vendors_use(kind: str, model: str, provider: str) -> None:
    assert catalog.find(kind, model, provider) is not None


@each(
    ("kind", "model", "provider"),
    [("openai", "gpt-4-32k-mine", ""), ("local", "x", "local"), ("vllm", "x", "../openai"), ("vllm", "x", "")],
)
def test_unknown_models_and_vendors_have_no_entry(kind: str, model: str, provider: str) -> None:
    assert catalog.find(kind, model, provider) is None


def test_every_renamed_vendor_has_a_provider_type_and_a_file() -> None:
    assert set(catalog.VENDOR_OF_TYPE) <= set(providers.types())
    assert set(catalog.VENDOR_OF_TYPE.values()) <= {path.stem for path in FILES}
