"""What is known of vendors' models: context windows, output caps, prices and abilities, as of the date in each file.

One JSON file for each vendor, an extract of models.dev (MIT, LICENSE.models-dev), read when a model of that vendor is first asked
about; nothing is fetched. The files stand beside this module and not in the operator's `config/`, which a container's own folder
replaces: an installed wheel has them, and whatever is wrong or missing is set in the YAML (`context:` on a model).
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import msgspec

VENDOR_OF_TYPE = {"gemini": "google", "fireworks": "fireworks-ai", "together": "togetherai"}
"""A provider's `type` where the catalog has another name for the vendor."""
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})\Z")
_NAME = re.compile(r"[a-z0-9-]+\Z")


class CatalogPrices(msgspec.Struct, frozen=True):
    """USD per million tokens."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None


class ModelEntry(msgspec.Struct, frozen=True):
    """One model. None: the source does not say."""

    context: int | None = None
    """Tokens of prompt and output together."""
    input: int | None = None
    """Most tokens of the prompt, where that is less than the window."""
    output: int | None = None
    """Most tokens of one answer."""
    usd_per_million_tokens: CatalogPrices | None = None
    reasoning: bool | None = None
    tool_call: bool | None = None
    structured_output: bool | None = None
    temperature: bool | None = None
    attachment: bool | None = None
    input_modalities: tuple[str, ...] = ()
    status: str | None = None


class VendorCatalog(msgspec.Struct, frozen=True):
    """One vendor's file."""

    source: str
    licence: str
    as_of: str
    models: dict[str, ModelEntry]


@functools.cache
def vendor_catalog(vendor: str) -> VendorCatalog | None:
    """A vendor's file; None when there is none."""
    if not _NAME.match(vendor):
        return None
    path = Path(__file__).with_name(f"{vendor}.json")
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=VendorCatalog)


def find(kind: str, model: str, provider: str = "") -> ModelEntry | None:
    """What is known of `model` at a provider of this type, or else of this name in the YAML; of an undated name for a dated one."""
    found = vendor_catalog(VENDOR_OF_TYPE.get(kind, kind)) or vendor_catalog(provider)
    if found is None:
        return None
    name = model.removeprefix("models/")
    return found.models.get(name) or found.models.get(_DATED.sub("", name))
