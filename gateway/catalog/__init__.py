"""The catalog of vendors' models: context windows, output caps, prices and supported features, as of the date in each file.

Each JSON file is an extract of models.dev for one vendor (MIT, LICENSE.models-dev), read when a model of that vendor is
first looked up. Nothing is downloaded. The files are part of the package, not of the operator's `config/` folder, so
that an installed wheel contains them. A model's `context:` and a provider's `prices:` override the catalog.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

VENDOR_OF_TYPE = {"gemini": "google", "fireworks": "fireworks-ai", "together": "togetherai"}
"""The vendor's name in the catalog, for provider types with another name."""
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})\Z")
_NAME = re.compile(r"[a-z0-9-]+\Z")


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


class ModelEntry(msgspec.Struct, frozen=True):
    """One model in the catalog. None means unknown."""

    context: int | None = None
    """Context window: tokens of prompt and output together."""
    input: int | None = None
    """Maximum tokens of the prompt, if less than the context window."""
    output: int | None = None
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


@functools.cache
def vendor_catalog(vendor: str) -> VendorCatalog | None:
    """Return the file of a vendor, or None if there is none."""
    if not _NAME.match(vendor):
        return None
    path = Path(__file__).with_name(f"{vendor}.json")
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=VendorCatalog)


def find(kind: str, model: str, provider: str = "") -> ModelEntry | None:
    """Return the entry of `model` for the provider type `kind`, or for the provider's name if the type has no catalog, or None.

    A dated model without an entry gets the entry of the undated name.
    """
    vendor = vendor_catalog(VENDOR_OF_TYPE.get(kind, kind)) or vendor_catalog(provider)
    if vendor is None:
        return None
    name = model.removeprefix("models/")
    return vendor.models.get(name) or vendor.models.get(undated(name))


def undated(model: str) -> str:
    """Return the name of a model without the date at its end."""
    return _DATED.sub("", model)
