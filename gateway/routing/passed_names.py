"""Patterns whose targets contain `*`, which stands for the part of the caller's model name that the pattern's `*` matches."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.config.route import Order, Ref, Route, Split, refs
from gateway.targets.candidate import Model


def passes_names(route: Route) -> bool:
    """Return whether a route has a target with `*`."""
    return any(ref.provider is not None and "*" in ref.model for ref in refs(route))


def model_for_name(model: Model, name: str) -> Model:
    """Return the model of a pattern for a name that matches it. The model's targets have the matched part in place of `*`."""
    return replace(model, route=_with_part(model.route, name[len(model.name) - 1 :]))


def _with_part(route: Route, part: str) -> Route:
    if isinstance(route, Order):
        return Order(tuple(_ref(step, part) if isinstance(step, Ref) else _split(step, part) for step in route.steps))
    return _split(route, part) if isinstance(route, Split) else _ref(route, part)


def _split(split: Split, part: str) -> Split:
    return Split(tuple((_ref(ref, part), weight) for ref, weight in split.choices))


def _ref(ref: Ref, part: str) -> Ref:
    return ref if ref.provider is None else Ref(ref.provider, ref.model.replace("*", part))
