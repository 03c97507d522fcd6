"""A model name becomes an ordered list of candidates: names, patterns, orders, splits, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import providers
from gateway.config.model import ModelConfig
from gateway.config.route import Order, Ref, Route, Split
from gateway.errors import NotFound
from gateway.routing.discovered import DiscoveredModels
from gateway.routing.router import Router
from gateway.routing.unknown_model import unknown_model
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Target
from tests.support.each import each

KIND = providers.get("openai-compatible")


def backend_of(provider: str, model: str, replica: str = "") -> Backend:
    """Return a backend for a target."""
    target = Target(str(Ref(provider, model, replica)), provider, KIND, model, "http://x/v1")
    return Backend((target,), Origin("http", "x", 80), NativeTransport(), Deadlines())


def router(draw: Callable[[], float] = lambda: 0.0, *, exposed: bool = False, **models: ModelConfig | Route) -> Router:
    """Return a router for these models."""
    settings = {name: one if isinstance(one, ModelConfig) else ModelConfig(name=name, targets=one) for name, one in models.items()}
    return Router(
        {name: Model(name, one.targets, one) for name, one in settings.items()},
        backend_of,
        expose_targets=exposed,
        providers=frozenset({"a", "b"}),
        draw=draw,
    )


def names(one: Router, model: str) -> list[str]:
    """Return the targets of a model, in order."""
    return [candidate.backend.target.name for candidate in one.candidates(one.find(model))]


A, B, C = Ref("a", "x"), Ref("b", "y"), Ref("a", "z")


def test_a_list_is_an_order_and_may_lead_through_other_models() -> None:
    one = router(first=Order((A, Ref(None, "second"))), second=Order((B, C)))
    assert names(one, "first") == ["a/x", "b/y", "a/z"]


def test_a_name_takes_precedence_over_patterns_and_a_longer_pattern_over_a_shorter() -> None:
    one = router(**{"*": A, "gpt-*": B, "gpt-4*": C, "gpt-4o": Ref("b", "exact")})
    assert [names(one, name)[0] for name in ("gpt-4o", "gpt-4-mini", "gpt-5", "other", "")] == ["b/exact", "a/z", "b/y", "a/x", "a/x"]
    assert one.names() == ["gpt-4o"]


@given(st.text(min_size=1, max_size=40))
def test_an_unknown_name_is_not_found_and_escaped_in_the_message(name: str) -> None:
    with pytest.raises(NotFound) as refused:
        router(known=A).find("x" + name)
    message = refused.value.message
    assert message.isascii()
    assert message.isprintable()
    assert "known" in message


def test_a_pattern_matches_its_own_spelling_by_prefix_only() -> None:
    with pytest.raises(NotFound):
        router(**{"gpt-*": A}).find("other-*")
    assert names(router(**{"gpt-*": A}), "gpt-*") == ["a/x"]  # the pattern matches its own name


@each("name", ["a\r\nb", "a\x00", "\u202e", "\ud7ff\u2028"])
def test_unprintable_names_match_no_pattern(name: str) -> None:
    with pytest.raises(NotFound):
        router(**{"*": A}).find(name)


def test_the_message_lists_twelve_names_at_most() -> None:
    assert "m11, ..." in unknown_model("x", [f"m{number}" for number in range(40)]).message


def test_exposed_targets_are_found_by_provider_and_model() -> None:
    assert names(router(exposed=True, m=A), "b/some/model") == ["b/some/model"]
    for name in ("c/x", "b"):
        with pytest.raises(NotFound):
            router(exposed=True, m=A).find(name)
    with pytest.raises(NotFound):
        router(m=A).find("a/x")


def test_the_pattern_for_all_names_does_not_hide_exposed_targets_but_a_longer_one_does() -> None:
    one = router(exposed=True, **{"*": A, "b/own*": A})
    assert names(one, "b/some/model") == ["b/some/model"]
    assert names(one, "b/own-model") == ["a/x"]
    assert names(one, "c/other") == ["a/x"]


weights = st.lists(st.floats(0, 1e9), min_size=1, max_size=6).filter(any)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_split_never_draws_an_option_of_weight_zero(given_weights: list[float], drawn: float) -> None:
    choices = tuple((Ref("a", str(index)), weight) for index, weight in enumerate(given_weights))
    (chosen,) = names(router(lambda: drawn, m=Split(choices)), "m")
    assert given_weights[int(chosen.removeprefix("a/"))] > 0


def test_a_split_draws_in_proportion_to_the_weights() -> None:
    steps = iter([number / 400 for number in range(400)])
    one = router(lambda: next(steps), m=Split(((A, 3.0), (B, 1.0))))
    assert Counter(names(one, "m")[0] for _ in range(400)) == {"a/x": 300, "b/y": 100}


def test_a_target_is_not_tried_twice() -> None:
    one = router(lambda: 0.0, m=Order((Split(((A, 1.0), (B, 1.0))), A, B)))
    assert names(one, "m") == ["a/x", "b/y"]


def test_a_route_without_a_split_is_computed_once() -> None:
    one = router(m=Order((A, B)))
    assert one.candidates(one.find("m")) is one.candidates(one.find("m"))


def test_the_settings_nearest_to_the_caller_apply() -> None:
    one = router(
        outer=ModelConfig(name="outer", targets=Order((Ref(None, "inner"), A)), timeout=5.0, strict=None),
        inner=ModelConfig(name="inner", targets=B, timeout=9.0, first_byte_timeout=2.0, retries=3, strict=True),
    )
    through, direct = one.candidates(one.find("outer"))
    assert (through.deadlines.total, through.deadlines.first_byte, through.deadlines.idle) == (5.0, 2.0, 60.0)
    assert (through.settings.retries, through.settings.strict) == (3, True)
    assert (direct.deadlines.total, direct.deadlines.first_byte) == (5.0, 60.0)
    assert (direct.settings.retries, direct.settings.strict) == (None, None)


def test_zero_retries_override_a_later_setting() -> None:
    one = router(
        outer=ModelConfig(name="outer", targets=Ref(None, "inner"), retries=0),
        inner=ModelConfig(name="inner", targets=A, retries=3),
    )
    assert one.candidates(one.find("outer"))[0].settings.retries == 0


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("gpt4o", "gpt-4o"), ("GPT-4O", "gpt-4o"), ("claude-sonnet4", "claude-sonnet-4"), ("zzz", None), ("", None), ("\r\n" * 50, None)],
)
def test_an_unknown_name_gets_the_nearest_model_as_a_suggestion(name: str, nearest: str | None) -> None:
    message = unknown_model(name, ["gpt-4o", "claude-sonnet-4", "big"]).message
    assert (f"Did you mean '{nearest}'?" in message) if nearest else ("Did you mean" not in message)


def test_a_suggestion_has_its_own_spelling() -> None:
    assert "Did you mean 'GPT-Main'?" in unknown_model("gpt-mian", ["GPT-Main"]).message


def test_costs_are_compared_only_on_routes_with_a_split_by_cost() -> None:
    split = Split(((Ref("a", "x"), 1.0), (Ref("b", "x"), 1.0)))
    models = router(
        plain=Ref("a", "x"),
        weighted=split,
        cheapest=ModelConfig(name="cheapest", targets=split, balance="cost"),
        outer=Order((Ref("a", "y"), Ref(None, "cheapest"))),
    )
    compared = {name: models.compares_costs(models.find(name)) for name in ("plain", "weighted", "cheapest", "outer")}
    assert compared == {"plain": False, "weighted": False, "cheapest": True, "outer": True}


def test_a_dry_run_that_began_before_the_replicas_changed_does_not_affect_calls() -> None:
    one = router(m=A)
    one.replicas = {"a": ("10.0.0.1:80", "10.0.0.2:80")}
    dry_run = one.for_dry_runs()
    one.replicas = {"a": ("10.0.0.3:80",)}
    names(dry_run, "m")
    assert names(one, "m") == ["a/x@10.0.0.3:80"]


def test_a_dry_run_that_began_before_the_listed_models_changed_does_not_affect_calls() -> None:
    one = router(m=A)

    def listing(target: Ref) -> DiscoveredModels:
        return DiscoveredModels({"listed": Model("listed", target, ModelConfig(name="listed", targets=target))})

    one.discovered = listing(B)
    dry_run = one.for_dry_runs()
    one.discovered = listing(C)
    names(dry_run, "listed")
    assert names(one, "listed") == ["a/z"]
