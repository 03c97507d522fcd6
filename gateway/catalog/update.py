"""Compares a published catalog with the known entries, and writes the new values to an overlay."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.catalog import ModelEntry, Overlay, VendorOverlay, vendor_catalog
from gateway.catalog.importers import Vendors, merged

LICENCES = {"models.dev": "MIT", "genai-prices": "MIT"}


class Difference(msgspec.Struct, frozen=True):
    """A model that is new or has changed, and its changes: name, old value, new value."""

    vendor: str
    model: str
    is_new: bool
    changes: tuple[tuple[str, Any, Any], ...]

    def __str__(self) -> str:
        if self.is_new:
            return f"+ {self.vendor}/{self.model}: " + ", ".join(f"{name} {_text(new)}" for name, _, new in self.changes)
        changes = ", ".join(f"{name} {_text(old)} -> {_text(new)}" for name, old, new in self.changes)
        return f"~ {self.vendor}/{self.model}: {changes}"


def updated(source: str, as_of: str, newer: Vendors, overlay: Overlay | None) -> tuple[Overlay, list[Difference]]:
    """Return the overlay with all newer entries, and its differences from the bundled catalog and the earlier overlay.

    The new overlay keeps the earlier entries of models that the source lacks.
    """
    differences: list[Difference] = []
    vendors = dict(overlay.vendors) if overlay is not None else {}
    for vendor, entries in sorted(newer.items()):
        bundled = vendor_catalog(vendor)
        old = bundled.models if bundled is not None else {}
        earlier = vendors[vendor].models if vendor in vendors else {}
        models = dict(earlier)
        for name, entry in sorted(entries.items()):
            known = earlier.get(name) or old.get(name)
            entry = merged(known, entry)
            if changes := tuple(_changes(known, entry)):
                differences.append(Difference(vendor, name, known is None, changes))
            if entry == old.get(name):
                models.pop(name, None)
            else:
                models[name] = entry
        vendors[vendor] = VendorOverlay(models)
    return Overlay(source, as_of, vendors, LICENCES.get(source, "")), differences


def _changes(old: ModelEntry | None, new: ModelEntry) -> Iterator[tuple[str, Any, Any]]:
    before, after = _values(old), _values(new)
    for name in sorted({**before, **after}):
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)


def _values(entry: ModelEntry | None) -> dict[str, Any]:
    """Return the prices, the context window and the output limit of an entry, by name. Features have no effect on calls."""
    if entry is None:
        return {}
    plain = msgspec.to_builtins(entry)
    prices = plain.get("usd_per_million_tokens") or {}
    # except for input and output, 0 stands for an unknown price
    rates = {name: price for name, price in prices.items() if price or name in ("input", "output")}
    return {**{name: plain[name] for name in ("context", "output") if name in plain}, **_prefixed(rates)}


def _prefixed(rates: dict[str, Any]) -> dict[str, Any]:
    return {f"{name} price" if name in ("input", "output") else name: price for name, price in rates.items()}


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else msgspec.json.encode(value).decode()


def write_overlay(path: Path, overlay: Overlay) -> None:
    """Write an overlay in place of the file at `path`, or leave that file unchanged.

    Raise OSError if the file cannot be written.
    """
    data = msgspec.json.format(msgspec.json.encode(overlay), indent=1) + b"\n"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
