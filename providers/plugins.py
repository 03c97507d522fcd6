"""Providers from installed packages: entry points of the group `gateway.providers`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from providers.base import Options, Provider, StreamDecoder, Target

GROUP = "gateway.providers"


def plugins() -> dict[str, EntryPoint]:
    """Return the entry points of installed providers by type."""
    return {point.name: point for point in entry_points(group=GROUP)}


def with_defaults(plugin: Any) -> Provider:
    """Return the plugin's provider, with the defaults of `Provider` if the provider's class is not a subclass of `Provider`."""
    if Provider in type(plugin).__mro__:
        return cast("Provider", plugin)
    return _Completed(plugin)  # type: ignore[abstract]  # it copies the plugin's methods


class _Completed(Provider):
    """A plugin with the defaults that it would inherit from `Provider`."""

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin
        for name in dir(plugin):
            if not name.startswith("_") and name != "decoder":
                setattr(self, name, getattr(plugin, name))

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        decoder = self._plugin.decoder(target, options)
        return decoder if decoder is None or StreamDecoder in type(decoder).__mro__ else _CompletedDecoder(decoder)


class _CompletedDecoder(StreamDecoder):
    """Wraps a plugin's decoder that is not a `StreamDecoder`: calls its `feed` and `end`, and supplies the other methods."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        chunks: Sequence[bytes] = self._decoder.feed(event, data)
        return chunks

    def end(self) -> Sequence[bytes]:
        end = getattr(self._decoder, "end", None)
        return () if end is None else tuple(end())
