"""Builds limits from the `limits` blocks of the configuration."""

from __future__ import annotations

from gateway.config.key import KeyConfig
from gateway.config.limit import LimitsConfig
from gateway.config.types import Config
from gateway.store.limit import KINDS, Limit, needed_estimates


def has_limits(config: Config) -> bool:
    """Return whether any limit can apply to calls.

    True if callers need keys, since any key may have limits, including one that is created at run time.
    """
    blocks = [*(entry.limits for entry in config.models.values()), *(entry.limits for entry in config.providers.values())]
    blocks += [target.limits for entry in config.providers.values() for target in entry.models.values()]
    return config.requires_keys or any(map(_has_any, blocks))


def _has_any(block: LimitsConfig) -> bool:
    return any(getattr(block, kind) is not None for kind in KINDS)


def limits_in(block: LimitsConfig, owner: str, side: str = "caller", *, strict: bool = False) -> tuple[Limit, ...]:
    """Return the limits of a `limits` block for one owner. `strict` makes them strict regardless of the block."""
    limits: list[Limit] = []
    strict = strict or block.strict
    for kind in KINDS:
        value = getattr(block, kind)
        if kind == "concurrent" and value is not None:
            limits.append(Limit(owner, kind, value, outage=block.outage, side=side))
        elif value is not None:
            limits.append(Limit(owner, kind, value.amount, value.window, outage=block.outage, side=side, strict=strict))
    return tuple(limits)


def needs_token_count(key: KeyConfig) -> bool:
    """Return whether the limits of a key need an estimate of a call's tokens."""
    return any(needed_estimates(limits_in(block, ""))[0] for block in (key.limits, key.limits_per_user))
