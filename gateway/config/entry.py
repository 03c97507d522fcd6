"""Readers for entries whose type depends on their content: providers, with the keys of their type, and models."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from msgspec import inspect as mi

import providers
from gateway.config.model import ModelConfig
from gateway.config.problem import join, nearest, suggest
from gateway.config.provider import ProviderConfig
from gateway.config.read import BAD, Reader
from gateway.config.route import RouteReader
from gateway.config.struct_types import keys_of, struct_type
from gateway.config.yamlfile import Mapping, Node, Scalar, Sequence


def options_type(kind: str) -> mi.StructType | None:
    """Return the struct of the keys that a provider type adds to the common ones, or None if it adds none."""
    options = providers.options_of(kind)
    return None if options is None else struct_type(options)


class ProviderReader:
    """Reads an entry of `providers:`. The provider type determines which keys the entry may have."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._common = struct_type(ProviderConfig)

    def read(self, node: Node, path: str, name: str) -> Any:
        """Return a ProviderConfig, or BAD."""
        if not name.strip() or "/" in name or not name.isprintable():
            self._reader.reject(node, path, "a provider's name must be printable text without '/'")
        mapping = self._reader.mapping(node, path)
        if mapping is None:
            return BAD
        kind = self._type(mapping, path, name)
        values, _ = self._reader.fields(mapping, self._common, path)
        if kind is None:
            return BAD  # if the type is unknown, so are its keys
        try:
            options = options_type(kind)
        except Exception as error:  # a plugin may fail in any way
            return self._reader.reject(
                node, join(path, "type"), f"the plugin of this type cannot be loaded: {type(error).__name__}: {error}"
            )
        self._reader.report_unknown_keys(
            mapping, path, {**keys_of(self._common), **(keys_of(options) if options else {})}
        )
        self._check(mapping, path, kind)
        filled = self._options(mapping, options, path) if options else {}
        return BAD if filled is BAD else ProviderConfig(**{**values, "name": name, "type": kind, "options": filled})

    def _options(self, mapping: Mapping, kind: mi.StructType, path: str) -> Any:
        """Return the values of the type's keys, with the defaults of absent ones, or BAD.

        A ValueError of the struct is reported at the key that its message begins with.
        """
        values, complete = self._reader.fields(mapping, kind, path)
        if not complete:
            return BAD
        try:
            return msgspec.structs.asdict(kind.cls(**values))
        except ValueError as error:
            key = str(error).partition(" ")[0]
            self._reader.problems.add_at_path(join(path, key) if key in keys_of(kind) else path, str(error))
            return BAD

    def _type(self, mapping: Mapping, path: str, name: str) -> str | None:
        entry = mapping.entries.get("type")
        if entry is None:
            if providers.is_known(name):
                return name
            if (wrong := nearest_key(mapping, "type")) is not None:
                message = "unknown key, did you mean 'type'?"
                self._reader.problems.add(mapping.entries[wrong].place, join(path, wrong), message)
                return None
            types = providers.types()
            near = nearest(name, types)
            hint = f"; did you mean '{near}'?" if near else ""
            known = ", ".join(types)
            self._reader.problems.add(
                mapping.place,
                join(path, "type"),
                f"missing, because '{name}' is not a provider type: use one of {known}{hint}",
            )
            return None
        kind = self._reader.text(entry.value, join(path, "type")) if isinstance(entry.value, Scalar) else ""
        if kind is None or providers.is_known(kind):
            return kind
        self._reader.reject(entry.value, join(path, "type"), "unknown type" + suggest(kind, providers.types(), "types"))
        return None

    def _check(self, mapping: Mapping, path: str, kind: str) -> None:
        """Report a missing base_url or api_key that the type requires. With a base_url, no api_key is required."""
        provider = providers.get(kind)
        entry = mapping.entries.get("base_url")
        if entry is not None and not (isinstance(entry.value, Scalar) and entry.value.null):
            return
        if provider.default_base_url is None:
            self._reader.problems.add(mapping.place, join(path, "base_url"), f"missing: {kind} has no default address")
        if provider.needs_credential and "api_key" not in mapping.entries:
            variable = f"{kind.upper().replace('-', '_')}_API_KEY"
            self._reader.problems.add(
                mapping.place, join(path, "api_key"), f'missing: {kind} requires a key, for example "${{{variable}}}"'
            )


class ModelReader:
    """Reads an entry of `models:`: a route, or `targets:` with settings."""

    def __init__(self, reader: Reader, routes: RouteReader) -> None:
        self._reader = reader
        self._routes = routes
        self._kind = struct_type(ModelConfig)
        self._settings_kind = mi.StructType(self._kind.cls, tuple(field for field in self._kind.fields if field.name != "targets"))

    def read(self, node: Node, path: str, name: str) -> Any:
        """Return a ModelConfig, or BAD."""
        if not name.strip() or not name.isprintable() or "*" in name[:-1]:
            self._reader.reject(node, path, "a model's name must be printable text, with '*' only at its end")
        if not self._has_settings(node):
            route = self._routes.read(node, path, name)
            return BAD if route is None else ModelConfig(name=name, targets=route)
        mapping = self._reader.mapping(node, path)
        if mapping is None:
            return BAD
        known = keys_of(self._kind)
        self._reader.report_unknown_keys(mapping, path, known)
        return self._settings(mapping, path, name)

    def _settings(self, mapping: Mapping, path: str, name: str) -> Any:
        entry = mapping.entries.get("targets")
        if entry is None:
            if nearest_key(mapping, "targets") is None:
                self._reader.problems.add(mapping.place, join(path, "targets"), "missing")
            route = None
        else:
            route = self._routes.read(entry.value, join(path, "targets"), name)
        self._reader.read_ref = partial(self._routes.read_mirror, model=name)
        values, _ = self._reader.fields(mapping, self._settings_kind, path)
        return BAD if route is None else ModelConfig(name=name, targets=route, **values)

    def _has_settings(self, node: Node) -> bool:
        """Return whether a node is a mapping of settings such as `targets`, and not a route."""
        if not isinstance(node, Mapping):
            return False
        known = keys_of(self._kind)
        return any(
            key in known or isinstance(entry.value, Sequence | Mapping) for key, entry in node.entries.items()
        ) or any("/" not in key and nearest(key, known) for key in node.entries)


def nearest_key(mapping: Mapping, wanted: str) -> str | None:
    """Return the key of `mapping` that is probably a misspelling of `wanted`, or None."""
    return next((key for key in mapping.entries if nearest(key, (wanted,)) == wanted), None)
