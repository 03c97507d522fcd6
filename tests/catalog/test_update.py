"""An update of the catalog: the differences, the overlay, and a file that is replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import catalog
from gateway.catalog import CatalogPrices, ModelEntry, Overlay, VendorOverlay, read_overlay
from gateway.catalog.update import updated, write_overlay

NEW = ModelEntry(context=1000, output=100, usd_per_million_tokens=CatalogPrices(input=1.5, output=3))


def bundled(model: str) -> ModelEntry:
    """Return an entry of the bundled catalog."""
    entry = catalog.find("openai", model)
    assert entry is not None
    return entry


def test_the_overlay_has_only_what_differs_and_every_vendor_that_was_compared() -> None:
    dearer = ModelEntry(usd_per_million_tokens=CatalogPrices(input=5, output=10))
    newer = {"openai": {"gpt-4o": dearer, "gpt-4.1": bundled("gpt-4.1"), "gpt-9": NEW}, "anthropic": {}}
    overlay, differences = updated("models.dev", "2026-11-29", newer, None)
    assert set(overlay.vendors["openai"].models) == {"gpt-4o", "gpt-9"}
    assert overlay.vendors["anthropic"].models == {}
    assert [str(each) for each in differences] == [
        "~ openai/gpt-4o: cache_read 1.25 -> none, input price 2.5 -> 5",
        "+ openai/gpt-9: context 1000, input price 1.5, output 100, output price 3",
    ]
    assert catalog.find("openai", "gpt-9-2027-01-01", overlay=overlay) == NEW
    assert catalog.find("openai", "gpt-4.1", overlay=overlay) == bundled("gpt-4.1")
    assert catalog.find("openai", "gpt-9") is None


def test_a_second_update_shows_only_what_changed_since() -> None:
    first, _ = updated("models.dev", "2026-11-01", {"openai": {"gpt-9": NEW}}, None)
    again, differences = updated("models.dev", "2026-11-29", {"openai": {"gpt-9": NEW}}, first)
    assert differences == []
    assert (again.vendors, again.as_of) == (first.vendors, "2026-11-29")
    back, _ = updated("models.dev", "2026-11-29", {"openai": {"gpt-4o": bundled("gpt-4o")}}, again)
    assert set(back.vendors["openai"].models) == {"gpt-9"}


def test_an_overlay_is_read_as_it_was_written(tmp_path: Path) -> None:
    overlay, _ = updated("models.dev", "2026-11-29", {"openai": {"gpt-9": NEW, "gpt-5.4": bundled("gpt-5.4")}}, None)
    path = tmp_path / "catalog.json"
    path.write_text("earlier")
    write_overlay(path, overlay)
    assert read_overlay(path.read_bytes()) == overlay
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["catalog.json"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog.json"
    path.write_text("earlier")

    def fail(source: str, target: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        write_overlay(path, Overlay("models.dev", "2026-11-29", {"openai": VendorOverlay()}))
    assert path.read_text() == "earlier"
    assert [each.name for each in tmp_path.iterdir()] == ["catalog.json"]
