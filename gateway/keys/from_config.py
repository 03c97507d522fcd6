"""Virtual keys from the `keys`, `issuers` and `teams` of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from gateway.config.key import DEFAULT_PRIORITY, KeyConfig, TeamConfig
from gateway.config.types import Config
from gateway.keys.authenticate import Keys
from gateway.keys.issuer_keys import IssuerKeys
from gateway.keys.token_callers import TokenCallers
from gateway.keys.virtual_key import VirtualKey, matches_any
from gateway.store.from_config import limits_in, model_limits_in


def keys_of(config: Config, sources: Mapping[str, IssuerKeys]) -> Keys:
    """Return the keys of a configuration. If the configuration requires no keys, every caller is accepted.

    `sources` are the public keys of its issuers, by the issuer's name.
    """
    keys = VirtualKeys(config.keys.values(), config.teams)
    tokens = TokenCallers(config, sources, virtual_key) if config.issuers else None
    return Keys(keys, open_to_all=not config.requires_keys, tokens=tokens)


class VirtualKeys(Mapping[bytes, VirtualKey]):
    """The virtual keys of some entries by digest. Each is made when it is looked up, because of many keys usually few are used."""

    def __init__(
        self, keys: Iterable[KeyConfig], teams: Mapping[str, TeamConfig], replaced: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """A key whose team is not in `teams` is disabled.

        `replaced` maps the hashes of replaced secrets to the Unix times in seconds at which their grace periods end.
        """
        self._entries = {key.hash: key for key in keys}
        self._teams = teams
        self._replaced = replaced

    def __getitem__(self, digest: bytes) -> VirtualKey:
        key = self._entries[f"sha256:{digest.hex()}"]
        return virtual_key(key, self._teams, self._replaced.get(key.hash))

    def __iter__(self) -> Iterator[bytes]:
        return (bytes.fromhex(hash.removeprefix("sha256:")) for hash in self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def virtual_key(key: KeyConfig, teams: Mapping[str, TeamConfig], replaced_until: float | None = None) -> VirtualKey:
    """Return one virtual key, with the limits and restrictions of its team."""
    team = teams.get(key.team) if key.team is not None else TeamConfig("")
    limits = limits_in(key.limits, f"key:{key.name}", strict=bool(key.strict))
    model_limits = model_limits_in(key, f"key:{key.name}", strict=bool(key.strict))
    if team is not None and key.team is not None:
        limits += limits_in(team.limits, f"team:{key.team}")
        model_limits += model_limits_in(team, f"team:{key.team}")
    return VirtualKey(
        key.name,
        _intersection(key.models, team.models if team is not None else None),
        _intersection(_patterns(key), _patterns(team) if team is not None else None),
        key.disabled or team is None or team.disabled,
        key.expires.timestamp() if key.expires else None,
        bool(key.strict),
        key.team or "",
        limits,
        model_limits,
        key.limits_per_user if limits_in(key.limits_per_user, "") else None,
        frozenset(key.bring_credentials),
        key.budget_brought_credentials,
        key.require_end_user,
        captures_content=key.capture == "content",
        priority=key.priority or (team.priority if team is not None else None) or DEFAULT_PRIORITY,
        replaced_until=replaced_until,
    )


def _patterns(entry: KeyConfig | TeamConfig) -> tuple[str, ...] | None:
    """Return the patterns of `passthrough` that an entry allows. If only `models` is set, no patterns are allowed."""
    return () if entry.passthrough is None and entry.models is not None else entry.passthrough


def _intersection(names: Collection[str] | None, others: Collection[str] | None) -> frozenset[str] | None:
    """Return the names and patterns that both lists allow. None allows everything."""
    if names is None or others is None:
        return None if names is others else frozenset(names if names is not None else others or ())
    return frozenset(
        [*(name for name in names if matches_any(name, others)), *(name for name in others if matches_any(name, names))]
    )
