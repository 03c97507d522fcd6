"""Builds limits from the `limits` blocks of the configuration."""

from __future__ import annotations

from gateway.config.key import KeyConfig, TeamConfig, model_limits
from gateway.config.limit import NO_LIMITS, LimitsConfig
from gateway.config.types import Config
from gateway.store.limit import KINDS, Limit, needed_estimates

ModelLimits = tuple[tuple[str, tuple[Limit, ...]], ...]
"""Limits by the name or pattern of the models to whose calls they apply."""


def has_limits(config: Config) -> bool:
    """Return whether any limit can apply to calls.

    The result is True if callers need keys, since any key may have limits, including one that is created at run time.
    """
    blocks = [*(entry.limits for entry in config.models.values()), *(entry.limits for entry in config.providers.values())]
    blocks += [target.limits for entry in config.providers.values() for target in entry.models.values()]
    return config.requires_keys or any(map(_has_any, blocks))


def _has_any(block: LimitsConfig) -> bool:
    return bool(limits_in(block, ""))


def limits_in(
    block: LimitsConfig, owner: str, side: str = "caller", *, strict: bool = False, model: str = ""
) -> tuple[Limit, ...]:
    """Return the limits of a `limits` block for one owner.

    `strict` makes them strict regardless of the block. `model` is the model or pattern that the block is for.
    """
    if block == NO_LIMITS:
        return ()
    limits: list[Limit] = []
    strict = strict or block.strict
    for kind in KINDS:
        if kind == "concurrent":
            if block.concurrent is not None:
                limits.append(Limit(owner, kind, block.concurrent, outage=block.outage, side=side, model=model))
            continue
        zone = block.timezone if kind == "spend" else "UTC"
        limits += [
            Limit(
                owner, kind, rate.amount, rate.window, outage=block.outage, side=side, strict=strict, model=model, timezone=zone
            )
            for rate in getattr(block, kind)
        ]
    return tuple(limits)


def model_limits_in(entry: KeyConfig | TeamConfig, owner: str, *, strict: bool = False) -> ModelLimits:
    """Return the limits of a key or team for single models, by the name or pattern of the model."""
    blocks = model_limits(entry).items()
    return tuple((model, limits_in(block, owner, strict=strict, model=model)) for model, block in blocks)


def needs_token_count(entry: KeyConfig | TeamConfig) -> bool:
    """Return whether the limits of a key or team need an estimate of a call's tokens."""
    blocks = [entry.limits, *model_limits(entry).values()]
    if isinstance(entry, KeyConfig):
        blocks.append(entry.limits_per_user)
    return any(needed_estimates(limits_in(block, ""))[0] for block in blocks if block != NO_LIMITS)
