"""Adapts one request for one provider, without a server."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import providers
from providers.base import Adjustment, Body, Options, Target, WireRequest

HI = [{"role": "user", "content": "Hi"}]


class Adapted(NamedTuple):
    """The request that is sent, and the adjustments."""

    sent: dict[str, Any]
    headers: dict[str, str]
    adjustments: list[Adjustment]

    def actions(self) -> list[tuple[str, str]]:
        """Return parameter and action of each adjustment."""
        return [(adjustment.param, adjustment.action) for adjustment in self.adjustments]


def target_for(kind: str, model: str = "example", **settings: Any) -> Target:
    """Return a target at the provider's default address."""
    result = providers.get(kind)
    return Target(f"{kind}/{model}", kind, result, model, result.default_base_url or "http://upstream.test/v1", "KEY", options=settings)


def adapt(kind: str, request: dict[str, Any], *, model: str = "example", strict: bool = False, **settings: Any) -> Adapted:
    """Adapt and encode a request. Raise Refusal as the provider does."""
    return adapt_with(kind, request, Options(strict=strict, stream=request.get("stream") is True), model=model, **settings)


def adapt_with(kind: str, request: dict[str, Any], options: Options, *, model: str = "example", **settings: Any) -> Adapted:
    """Adapt and encode a request with options that the caller keeps."""
    target = target_for(kind, model, **settings)
    body = Body(json.dumps({"model": "alias", "messages": HI, **request}).encode())
    adjustments = target.kind.adapt(body, target, options)
    wire: WireRequest = target.kind.encode(body, target, options)
    return Adapted(json.loads(wire.body), dict(wire.headers), adjustments)
