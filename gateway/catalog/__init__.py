"""The catalog of vendors' models: context windows, output caps, prices and supported features, as of the date in each file.

Each JSON file is an extract of models.dev for one vendor (MIT, LICENSE.models-dev), read when a model of that vendor is
first looked up. Nothing is downloaded. The files are part of the package, not of the operator's `config/` folder, so
that an installed wheel contains them. A model's `context:` and a provider's `prices:` override the catalog.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import msgspec

VENDOR_OF_TYPE = {"gemini": "google", "fireworks": "fireworks-ai", "together": "togetherai"}
"""The vendor's name in the catalog, for provider types with another name."""
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})\Z")
_NAME = re.compile(r"[a-z0-9-]+\Z")


class CatalogPrices(msgspec.Struct, frozen=True):
    """Prices in USD per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


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
    return vendor.models.get(name) or vendor.models.get(_DATED.sub("", name))
