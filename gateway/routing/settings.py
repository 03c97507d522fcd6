"""Merges the settings of the models on a route into those that apply at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.config.model import ModelSettings
from gateway.upstream.transport import Deadlines


def merge_settings(path: Iterable[ModelSettings]) -> ModelSettings:
    """Return for each key the value of the first model that sets it. The model that the caller asked for comes first.

    Two cases differ: blocks whose keys are all optional are merged key by key, and `strict` is True if it is True for any model.
    """
    merged: dict[str, Any] = {}
    for settings in path:
        for name in ModelSettings.__struct_fields__:
            value = getattr(settings, name)
            if value is None or (_is_partial(value) and value == type(value)()):
                continue
            known = merged.get(name)
            # A model that is strict stays strict on every route that leads to it.
            if known is None or (name == "strict" and value):
                merged[name] = value
            elif _is_partial(value):
                merged[name] = _fill(known, value)
    return ModelSettings(**merged)


def merge_deadlines(settings: ModelSettings, provider: Deadlines) -> Deadlines:
    """Return the provider's deadlines, overridden by the timeouts in the settings."""
    return Deadlines(
        connect=provider.connect,
        tls=provider.tls,
        first_byte=settings.first_byte_timeout or provider.first_byte,
        idle=settings.idle_timeout or provider.idle,
        total=settings.timeout or provider.total,
    )


def _is_partial(value: object) -> bool:
    """Return whether a setting is a block whose keys are all optional, such as `context`. Such blocks are merged key by key."""
    return isinstance(value, msgspec.Struct) and all(field.default is None for field in msgspec.structs.fields(value))


def _fill(block: msgspec.Struct, other: msgspec.Struct) -> msgspec.Struct:
    """Return `block` with its unset keys taken from `other`."""
    unset = {name: getattr(other, name) for name, value in msgspec.structs.asdict(block).items() if value is None}
    return msgspec.structs.replace(block, **unset)
