"""Limits as the configuration declares them."""

from __future__ import annotations

from gateway.config.limit import LimitsConfig
from gateway.config.types import Config, KeyConfig
from gateway.store.limit import KINDS, Limit, needed_estimates


def has_limits(config: Config) -> bool:
    """Whether a configuration limits anything, or may come to: where there are keys, some with limits may be made at run time."""
    blocks = [*(one.limits for one in config.models.values()), *(one.limits for one in config.providers.values())]
    blocks += [target.limits for one in config.providers.values() for target in one.models.values()]
    return config.requires_keys or any(map(_some, blocks))


def _some(block: LimitsConfig) -> bool:
    return any(getattr(block, kind) is not None for kind in KINDS)


def limits_in(block: LimitsConfig, owner: str, side: str = "caller", *, strict: bool = False) -> tuple[Limit, ...]:
    """A block of the YAML as limits of one owner; `strict` where the owner is, whatever the block says."""
    found: list[Limit] = []
    strict = strict or block.strict
    for kind in KINDS:
        value = getattr(block, kind)
        if kind == "concurrent" and value is not None:
            found.append(Limit(owner, kind, value, outage=block.outage, side=side))
        elif value is not None:
            found.append(Limit(owner, kind, value.amount, value.window, outage=block.outage, side=side, strict=strict))
    return tuple(found)


def needs_token_count(key: KeyConfig) -> bool:
    """Whether a key's limits ask for its calls' tokens before they are made."""
    return any(needed_estimates(limits_in(block, ""))[0] for block in (key.limits, key.limits_per_user))
