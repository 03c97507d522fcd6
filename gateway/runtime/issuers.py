"""The public keys of all issuers. Generations share these keys; the keys of an issuer are dropped when no generation uses them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gateway.config.issuer import IssuerConfig
from gateway.config.types import Config
from gateway.keys.issuer_keys import Fetch, IssuerKeys

_Source = tuple[object, ...]


class Issuers:
    """The public keys of the issuers in one process."""

    def __init__(self, fetch: Fetch, folder: Path | None, report: Callable[[str], None]) -> None:
        """`folder` is the folder for the state of the gateway, if it has one."""
        self._fetch = fetch
        self._folder = folder
        self._report = report
        self._sources: dict[_Source, IssuerKeys] = {}

    def sources(self, config: Config) -> dict[str, IssuerKeys]:
        """Return the keys of each issuer of a configuration, by name."""
        return {name: self._source(issuer) for name, issuer in config.issuers.items()}

    def start(self, config: Config) -> None:
        """Begin to read the keys of the issuers of a configuration."""
        for source in self.sources(config).values():
            source.start()

    async def keep_only(self, configs: Iterable[Config]) -> None:
        """Drop the keys of issuers that are in none of these configurations."""
        used = {_source_of(issuer) for config in configs for issuer in config.issuers.values()}
        for key in self._sources.keys() - used:
            await self._sources.pop(key).stop()

    def fetch_times(self, config: Config) -> Mapping[tuple[str, ...], float]:
        """Return, for metrics, the Unix time of the last successful fetch (0: none) for each issuer whose keys come from a URL."""
        return {(name,): source.fetched_at for name, source in self.sources(config).items() if not source.is_fixed}

    def fetches(self, config: Config) -> Mapping[tuple[str, ...], float]:
        """Return the number of fetches by issuer and outcome, for metrics."""
        sources = self.sources(config).items()
        return {(name, outcome): count for name, source in sources if not source.is_fixed for outcome, count in source.fetches.items()}

    def _source(self, issuer: IssuerConfig) -> IssuerKeys:
        key = _source_of(issuer)
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = IssuerKeys(issuer, self._fetch, self._path_of(issuer), self._report)
        return source

    def _path_of(self, issuer: IssuerConfig) -> Path | None:
        """Return the file that keeps the keys, or None. Its name depends on the issuer, so it never has the keys of another issuer."""
        if self._folder is None or issuer.jwks_file is not None:
            return None
        digest = hashlib.sha256(repr((issuer.issuer, issuer.jwks_url)).encode()).hexdigest()[:16]
        return self._folder / f"issuer-keys-{digest}.json"


def _source_of(issuer: IssuerConfig) -> _Source:
    """Return the settings that determine the keys."""
    proxy = None if issuer.proxy is None else str(issuer.proxy)
    return issuer.name, issuer.issuer, issuer.jwks_url, issuer.key_set, issuer.ca, proxy, issuer.refresh
