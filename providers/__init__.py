"""The registry of providers by `type:`. Built-in providers are imported on first use; plugins are installed packages.

A package adds a provider with an entry point of the group `gateway.providers`: the name of the entry point is the type,
and its object implements `providers.base.Provider`. A plugin cannot replace a built-in type.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

from providers.plugins import plugins, with_defaults

if TYPE_CHECKING:
    from providers.base import Provider

SHARED = frozenset(
    {"aggregate", "answers", "any_usage", "base", "body", "chunk_errors", "chunk_leaves", "chunk_template", "chunk_templates"}
    | {"chunk_values", "clean_chunks", "completion_table", "conformance", "embedding_table", "failures"}
    | {"finish_reasons", "limit_failures", "media", "message_tables", "model_list", "native_history", "plain_usage", "plugins"}
    | {"request_failures", "rerank_answers", "rerank_table", "responses_wire", "rules", "schema_dialects"}
    | {"service_tiers", "stream_choices", "streams", "table", "times", "token_usage", "tokenizer_apis", "tool_calls"}
    | {"usage", "value_hash", "vectors"}
)
"""Modules of this package that are not providers. Every other module defines a provider: a constant with its name in capitals."""


def _ours() -> dict[str, tuple[str, str]]:
    names = sorted(module.name for module in iter_modules(__path__) if module.name not in SHARED)
    found = {name.replace("_", "-"): (f"providers.{name}", name.upper()) for name in names}
    # The engine's child process also imports the package `local`, but must not load the adapter.
    return found | {"local": ("providers.local.adapter", "LOCAL")}


OURS = _ours()
"""Module and object of each built-in type."""

_loaded: dict[str, Provider] = {}


def types() -> list[str]:
    """Return the allowed values of `type:`, sorted."""
    return sorted({*OURS, *plugins()})


def is_known(type: str) -> bool:
    """Return whether a type exists. Installed packages are searched only for a type that is not built in."""
    return type in OURS or type in plugins()


def is_built_in(type: str) -> bool:
    """Return whether a type belongs to Lockgate, and not to a plugin."""
    return type in OURS


def get(type: str) -> Provider:
    """Return the provider of a type. Raise KeyError with a readable message if the type is unknown."""
    provider = _loaded.get(type)
    if provider is None:
        provider = _loaded[type] = _load(type)
    return provider


def options_of(type: str) -> Any:
    """Return the msgspec Struct of a provider's own settings, or None. Raise KeyError if the type is unknown."""
    return get(type).options_type


def _load(type: str) -> Provider:
    if type in OURS:
        module, name = OURS[type]
        return cast("Provider", getattr(import_module(module), name))
    if (plugin := plugins().get(type)) is not None:
        return with_defaults(plugin.load())
    near = get_close_matches(type, types(), 1)
    hint = f", did you mean '{near[0]}'?" if near else f"; known types: {', '.join(types())}"
    raise KeyError(f"unknown provider type '{type}'{hint}")
