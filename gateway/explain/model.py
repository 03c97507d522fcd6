"""Describes one model for `/v1/models`: its limits, prices and state, and the parameters that each of its targets honours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.attempts.fit import described, window_sizes
from gateway.catalog.prices import TokenPrice
from gateway.config.model import ContextConfig
from gateway.targets.candidate import Candidate

IsLive = Callable[[str], bool]
"""Returns whether a call may be sent to the target of this name."""

_PRICES = (
    "prompt", "output", "cached", "cache_write", "cache_write_1h", "reasoning", "audio_prompt", "image_prompt", "audio_output",
    "image_output", "search",
)  # fmt: skip
_NANO_DOLLARS = 10**9


def describe_model(name: str, candidates: Sequence[Candidate], is_live: IsLive, *, brief: bool = False) -> dict[str, Any]:
    """Return one entry of `/v1/models`, for a model with these candidates. Only known figures are included.

    The context window and the output limit are the smallest of all targets, so that a request within them fits every target.
    Prices are those of the first target, in US dollars per million tokens. Unless `brief` is set, the entry has all targets
    with the parameters that each honours and those that it adjusts.
    """
    targets = [_describe_target(candidate, is_live) for candidate in candidates]
    model = {"id": name, "object": "model", "created": 0, "owned_by": candidates[0].backend.target.provider}
    for limit in ("context_window", "max_output_tokens"):
        known = [target[limit] for target in targets if limit in target]
        if known:
            model[limit] = min(known)
    if "pricing" in targets[0]:
        model["pricing"] = targets[0]["pricing"]
    model["available"] = any(target["available"] for target in targets)
    if not brief:
        for target, candidate in zip(targets, candidates, strict=True):
            served = candidate.backend.target
            target["parameters"] = described(served.kind.capabilities(served.model))
        model["targets"] = targets
    return model


def _describe_target(candidate: Candidate, is_live: IsLive) -> dict[str, Any]:
    backend = candidate.backend
    window, _, output = window_sizes(backend, candidate.settings.context or ContextConfig())
    target: dict[str, Any] = {"target": backend.target.name, "available": is_live(backend.target.name)}
    if window is not None:
        target["context_window"] = window
    if output is not None:
        target["max_output_tokens"] = output
    if backend.price is not None:
        target["pricing"] = _pricing(backend.price)
    return target


def _pricing(price: TokenPrice) -> dict[str, Any]:
    """Return prices under the names that `prices:` has in the configuration."""
    known = {name: getattr(price, name) for name in _PRICES}
    pricing: dict[str, Any] = {name: value / _NANO_DOLLARS for name, value in known.items() if value is not None}
    if price.steps:
        pricing["steps"] = [{"over": over, **_pricing(step)} for over, step in price.steps]
    return pricing
