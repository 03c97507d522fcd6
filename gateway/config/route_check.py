"""Checks of a model's settings against its route: a balance needs a split, a hedge needs a second target."""

from __future__ import annotations

from collections.abc import Iterator

import providers
from gateway.catalog.prices import price_of
from gateway.config.model import ModelConfig
from gateway.config.problem import Problems, join
from gateway.config.provider_check import check_times
from gateway.config.route import DEFAULT_MAX_ATTEMPTS, Order, Ref, Route, Split, refs
from gateway.config.types import Config

MAX_HEDGE_BUDGET = 0.05


def check_routes(config: Config, problems: Problems) -> None:
    """Refuse model settings that have no effect, or contradict each other or the route."""
    for name, model in config.models.items():
        if model == ModelConfig(name=model.name, targets=model.targets):
            continue  # a route without settings
        _check_retries(model, join("models", name), problems)
        check_times(model, join("models", name), problems)
        if model.targets is not None:
            _check_balance(config, name, model, problems)
            _check_hedge(config, name, model, problems)
            _check_continuing(config, name, model, problems)


def _check_retries(model: ModelConfig, path: str, problems: Problems) -> None:
    """Refuse more retries than `attempts` allows."""
    attempts = model.attempts or DEFAULT_MAX_ATTEMPTS
    if model.retries is None or model.retries < attempts:
        return
    origin = "attempts" if model.attempts else "the default of attempts"
    fewer = f"retries: {attempts - 1}, or " if attempts > 1 else ""
    more = f"attempts: {model.retries + 1} or more" if model.retries < 9 else "attempts: 10"
    message = f"exceeds {origin} ({attempts} request{'s' if attempts > 1 else ''} per call, the first one included): set {fewer}{more}"
    problems.add_at_path(f"{path}.retries", message)


def _check_balance(config: Config, name: str, model: ModelConfig, problems: Problems) -> None:
    path = join("models", name)
    splits = _splits(model.targets)
    if any(ref.provider in config.providers and config.providers[ref.provider].replicas is not None for ref in refs(model.targets)):
        return  # the replicas of a provider are a split
    if model.balance is not None and not splits:
        problems.add_at_path(
            f"{path}.balance",
            "balance needs a split: write targets as a mapping to weights, such as { a/model: 1, b/model: 1 }",
        )
    elif model.balance is not None and all(len(split.choices) < 2 for split in splits):
        problems.add_at_path(f"{path}.balance", "balance needs a split with at least two targets")
    if model.session_header is not None and model.balance != "session":
        problems.add_at_path(f"{path}.session_header", "requires balance: session")
    if model.balance == "cost":
        _check_prices(config, name, splits, problems)


def _check_hedge(config: Config, name: str, model: ModelConfig, problems: Problems) -> None:
    """Refuse a hedge without a second target or with too large a budget."""
    if model.hedge is None or model.hedge.after is None:
        return
    path = join("models", name)
    if len(_some_targets(config, model.targets, set(), {name})) < 2:
        problems.add_at_path(f"{path}.hedge", "hedge needs a second target: write targets as a list of several targets")
    if model.hedge.budget > MAX_HEDGE_BUDGET:
        problems.add_at_path(f"{path}.hedge.budget", f"must be at most {MAX_HEDGE_BUDGET:.0%}")


def _check_continuing(config: Config, name: str, model: ModelConfig, problems: Problems) -> None:
    """Refuse continue_on_cut if no target of the model can continue a stream."""
    if not model.continue_on_cut:
        return
    named = {ref.provider for ref in _some_targets(config, model.targets, set(), {name})}
    types = sorted({provider.type for provider in config.providers.values() if provider.name in named})
    if types and all(providers.get(kind).prefill is None for kind in types):
        problems.add_at_path(
            f"{join('models', name)}.continue_on_cut",
            f"no target can continue a stream: use vllm, llamacpp, mistral, anthropic or local instead of {' and '.join(types)}",
        )


def _some_targets(config: Config, route: Route, found: set[Ref], seen: set[str]) -> set[Ref]:
    """Add the targets of a route to `found`, and return `found`. Each model is followed once, and targets of weight 0 are left out."""
    for ref in refs_with_weight(route):
        model = config.models.get(ref.model) if ref.provider is None else None
        if ref.provider is not None:
            found.add(ref)
        elif model is not None and model.targets is not None and ref.model not in seen:
            seen.add(ref.model)
            _some_targets(config, model.targets, found, seen)
    return found


def refs_with_weight(route: Route) -> Iterator[Ref]:
    """Yield the targets and models of a route, without those of weight 0."""
    if isinstance(route, Split):
        yield from (ref for ref, weight in route.choices if weight)
    elif isinstance(route, Order):
        for step in route.steps:
            yield from refs_with_weight(step)
    else:
        yield route


def _check_prices(config: Config, name: str, splits: list[Split], problems: Problems) -> None:
    """Refuse balance: cost with a target whose price is unknown, because that target could never be chosen."""
    for ref in (
        ref for split in splits for choice, weight in split.choices if weight for ref in first_targets(config, choice)
    ):
        provider = config.providers.get(ref.provider or "")
        if provider is not None and price_of(provider, ref.model) is None:
            where = join(join("providers", provider.name), "prices")
            problems.add_at_path(
                f"{join('models', name)}.balance",
                f"{ref} has no known price, so its cost cannot be compared: add the price under {where}",
            )
            return


def _splits(route: Route) -> list[Split]:
    """Return the splits of the route itself, not those of the models to which the route leads."""
    if isinstance(route, Order):
        return [step for step in route.steps if isinstance(step, Split)]
    return [route] if isinstance(route, Split) else []


def first_targets(config: Config, route: Route, seen: set[str] | None = None) -> list[Ref]:
    """Return the targets that may be the first ones on a route. Each model is followed once."""
    seen = set() if seen is None else seen
    if isinstance(route, Order):
        return first_targets(config, route.steps[0], seen) if route.steps else []
    if isinstance(route, Split):
        return [target for ref in refs(route) for target in first_targets(config, ref, seen)]
    if route.provider is not None:
        return [route]
    model = config.models.get(route.model)
    if model is None or model.targets is None or route.model in seen:
        return []
    seen.add(route.model)
    return first_targets(config, model.targets, seen)
