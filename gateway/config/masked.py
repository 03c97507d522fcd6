"""A configuration as plain values for display: secrets are masked, and all other values are written as in the YAML."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect as mi

from gateway.config.formats import Address
from gateway.config.limit import Rate
from gateway.config.pem import PemFile
from gateway.config.route import Order, Ref, Split
from gateway.config.secret import Secret, Url
from gateway.config.types import Config

MASK = "***"
_DAY_S = 24 * 3600.0


def masked(config: Config) -> dict[str, Any]:
    """Return the whole configuration as plain values, with defaults filled in."""
    values: dict[str, Any] = masked_value(config)
    return values


def masked_value(value: Any, form: str | None = None) -> Any:
    """Return one value as plain data. `form` is the format of its field."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Url):
        return repr(value)[1:-1]
    if isinstance(value, Ref | Address | PemFile):
        return str(value)
    if isinstance(value, Rate):
        return f"{value.amount / 10**9:g} USD/{value.window}" if form == "spend" else f"{value.amount}/{value.window}"
    if isinstance(value, Split):
        return {str(ref): weight for ref, weight in value.choices}
    if isinstance(value, Order):
        return [masked_value(step) for step in value.steps]
    if isinstance(value, msgspec.Struct):
        return {name: masked_value(field, form) for name, (field, form) in fields_of(value).items()}
    if isinstance(value, dict):
        return {key: masked_value(item) for key, item in value.items()}
    if isinstance(value, tuple) and form in ("rate", "spend") and len(value) < 2:
        return masked_value(value[0], form) if value else None
    if isinstance(value, list | tuple):
        return [masked_value(item, form) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if form == "lifetime" and isinstance(value, float) and value % _DAY_S == 0:
        return f"{value / _DAY_S:.0f}d"
    if form in ("duration", "lifetime", "pause") and isinstance(value, float):
        return _seconds(value)
    if form == "size" and isinstance(value, int):
        return _bytes(value)
    if form == "key_hash" and isinstance(value, str):
        return value[:15] + "..."
    return value if isinstance(value, str | int | float | bool | None) else MASK


def _seconds(value: float) -> str:
    return f"{value * 1000:g}ms" if 0 < value < 1 else f"{value:g}s"


def _bytes(value: int) -> str | int:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return value


def fields_of(value: msgspec.Struct) -> dict[str, tuple[Any, str | None]]:
    """Return the fields of a struct by their keys in the YAML, each with its value and format."""
    fields = {name: (getattr(value, field), form) for name, field, form in _fields(type(value)) if form != "outside"}
    options: dict[str, Any] = getattr(value, "options", {})
    return fields | {name: (option, None) for name, option in options.items()}


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, str | None], ...]:
    """Return each field's key in the YAML, its Python name and its format."""
    info = mi.type_info(kind)
    assert isinstance(info, mi.StructType)
    return tuple((field.encode_name, field.name, _form(field.type)) for field in info.fields)


def _form(kind: mi.Type) -> str | None:
    while isinstance(kind, mi.Metadata):
        form: str | None = (kind.extra or {}).get("form")
        if form is not None:
            return form
        kind = kind.type
    if isinstance(kind, mi.UnionType):
        return next((form for each in kind.types if (form := _form(each)) is not None), None)
    return None
