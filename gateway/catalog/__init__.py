"""The catalog of vendors' models: context windows, output caps, prices and supported features, as of the date in each file.

Each JSON file is an extract of models.dev for one vendor (MIT, LICENSE.models-dev), read when a model of that vendor is
first looked up. Nothing is downloaded. The files are part of the package, not of the operator's `config/` folder, so
that an installed wheel contains them. `catalog:` in the configuration names an overlay with newer entries, which `lockgate
catalog update` writes. A model's `context:` and a provider's `prices:` override both.
"""

from __future__ import annotations

import functools
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from providers.base import Target

VENDOR_OF_TYPE = {"gemini": "google", "fireworks": "fireworks-ai", "together": "togetherai"}
"""The vendor's name in the catalog, for provider types with another name."""
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})\Z")
_NAME = re.compile(r"[a-z0-9-]+\Z")


_Tokens = Annotated[int, Meta(gt=0, le=1_000_000_000)]
_Usd = Annotated[float, Meta(ge=0, le=100_000)]


class CatalogRates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prices of some kinds of tokens in USD per million tokens. None means that the kind has no price of its own."""

    input: _Usd | None = None
    output: _Usd | None = None
    cache_read: _Usd | None = None
    cache_write: _Usd | None = None
    cache_write_1h: _Usd | None = None
    reasoning: _Usd | None = None
    input_audio: _Usd | None = None
    input_image: _Usd | None = None
    output_audio: _Usd | None = None
    output_image: _Usd | None = None


class CatalogStep(CatalogRates, frozen=True, kw_only=True, omit_defaults=True):
    """Prices of prompts with more tokens than `over`."""

    over: Annotated[int, Meta(ge=0, le=1_000_000_000)]


class CatalogPrices(CatalogRates, frozen=True, kw_only=True, omit_defaults=True):
    """Prices in USD per million tokens. Steps and tiers list only the kinds of tokens that have another price there."""

    input: _Usd = 0.0
    output: _Usd = 0.0
    steps: tuple[CatalogStep, ...] = ()
    service_tiers: dict[str, CatalogRates] = {}


class ModelEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model in the catalog. None means unknown."""

    context: _Tokens | None = None
    """Context window: tokens of prompt and output together."""
    input: _Tokens | None = None
    """Maximum tokens of the prompt, if less than the context window."""
    output: _Tokens | None = None
    """Maximum tokens of one answer."""
    usd_per_million_tokens: CatalogPrices | None = None
    reasoning: bool | None = None
    tool_call: bool | None = None
    structured_output: bool | None = None
    temperature: bool | None = None
    attachment: bool | None = None
    input_modalities: tuple[str, ...] = ()
    status: str | None = None


class VendorCatalog(msgspec.Struct, frozen=True):
    """The file of one vendor."""

    source: str
    licence: str
    as_of: str
    models: dict[str, ModelEntry]


class VendorOverlay(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newer entries of one vendor. If there are none, the vendor was compared and nothing was newer."""

    models: dict[str, ModelEntry] = {}


class Overlay(msgspec.Struct, frozen=True):
    """A file of entries that are newer than those of the catalog."""

    source: str
    as_of: Annotated[str, Meta(pattern=r"\A\d{4}-\d{2}-\d{2}\Z")]
    vendors: dict[str, VendorOverlay]
    licence: str = ""


_read_overlay = msgspec.json.Decoder(Overlay).decode


def read_overlay(data: bytes | str) -> Overlay:
    """Return the overlay in a file's content. Raise ValueError if the overlay is invalid."""
    overlay = _read_overlay(data)
    date.fromisoformat(overlay.as_of)
    return overlay


@functools.cache
def vendor_catalog(vendor: str) -> VendorCatalog | None:
    """Return the file of a vendor, or None if there is none."""
    if not _NAME.match(vendor):
        return None
    path = Path(__file__).with_name(f"{vendor}.json")
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=VendorCatalog)


def bundled_vendors() -> frozenset[str]:
    """Return the names of all vendors in the catalog."""
    return frozenset(path.stem for path in Path(__file__).parent.glob("*.json"))


_BUNDLED = "bundled entry"
"""Key in `Target.__dict__` under which the target's entry of the bundled catalog is kept; this entry never changes."""


def vendor_names(kind: str, provider: str) -> tuple[str, str]:
    """Return the names that a provider's vendor may have in the catalog: by its type, then by its own name."""
    return VENDOR_OF_TYPE.get(kind, kind), provider


def find(kind: str, model: str, provider: str = "", overlay: Overlay | None = None) -> ModelEntry | None:
    """Return the entry of `model`, or None if there is none.

    The vendor is that of the provider type `kind` or, if it has no catalog, the one with the provider's name. Entries of the
    overlay come first. A dated model without an entry gets the entry of the undated name.
    """
    name = model.removeprefix("models/")
    for vendor in vendor_names(kind, provider):
        bundled, newer = vendor_catalog(vendor), overlay.vendors.get(vendor) if overlay is not None else None
        if bundled is None and newer is None:
            continue
        for each in (name, undated(name)):
            for source in (newer, bundled):
                if source is not None and (entry := source.models.get(each)) is not None:
                    return entry
        return None
    return None


def entry_of(target: Target) -> ModelEntry | None:
    """Return the entry of a target's model, or None if there is none."""
    if isinstance(target.facts, ModelEntry):
        return target.facts
    found: ModelEntry | bool | None = target.__dict__.get(_BUNDLED, False)
    if isinstance(found, bool):
        found = target.__dict__[_BUNDLED] = find(target.kind.type, target.model, target.provider)
    return found


def undated(model: str) -> str:
    """Return the name of a model without the date at its end."""
    return _DATED.sub("", model)
