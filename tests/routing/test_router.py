"""A model name becomes an order of places: names, patterns, orders, splits, and whose settings hold."""

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
from gateway.routing.router import Router, unknown_model
from gateway.targets.backend import Backend
from gateway.targets.candidate import Model
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Target

KIND = providers.get("openai-compatible")


def backend_of(provider: str, model: str) -> Backend:
    """A backend for a target."""
    target = Target(f"{provider}/{model}", provider, KIND, model, "http://x/v1")
    return Backend((target,), Origin("http", "x", 80), NativeTransport(), Deadlines())


def router(draw: Callable[[], float] = lambda: 0.0, *, exposed: bool = False, **models: ModelConfig | Route) -> Router:
    """A router over these models."""
    settings = {name: one if isinstance(one, ModelConfig) else ModelConfig(name=name, targets=one) for name, one in models.items()}
    return Router(
        {name: Model(name, one.targets, one) for name, one in settings.items()},
        backend_of,
        expose_targets=exposed,
        providers=frozenset({"a", "b"}),
        draw=draw,
    )


def names(one: Router, model: str) -> list[str]:
    """The targets of a model, in order."""
    return [choice.backend.target.name for choice in one.candidates(one.find(model))]


A, B, C = Ref("a", "x"), Ref("b", "y"), Ref("a", "z")


def test_a_list_is_an_order_through_other_models() -> None:
    one = router(first=Order((A, Ref(None, "second"))), second=Order((B, C)))
    assert names(one, "first") == ["a/x", "b/y", "a/z"]


def test_the_longest_pattern_wins_and_a_name_beats_them_all() -> None:
    one = router(**{"*": A, "gpt-*": B, "gpt-4*": C, "gpt-4o": Ref("b", "exact")})
    assert [names(one, name)[0] for name in ("gpt-4o", "gpt-4-mini", "gpt-5", "other", "")] == ["b/exact", "a/z", "b/y", "a/x", "a/x"]
    assert one.names() == ["gpt-4o"]


@given(st.text(min_size=1, max_size=40))
def test_a_name_of_nothing_is_not_found_and_shown_harmlessly(name: str) -> None:
    with pytest.raises(NotFound) as refused:
        router(known=A).find("x" + name)
    message = refused.value.message
    assert message.isascii()
    assert message.isprintable()
    assert "known" in message


def test_a_pattern_cannot_be_asked_for_by_its_own_spelling() -> None:
    with pytest.raises(NotFound):
        router(**{"gpt-*": A}).find("other-*")
    assert names(router(**{"gpt-*": A}), "gpt-*") == ["a/x"]  # it fits its own prefix


@pytest.mark.parametrize("name", ["a\r\nb", "a\x00", "\u202e", "\ud7ff\u2028"])
def test_names_that_cannot_be_printed_fit_no_pattern(name: str) -> None:
    with pytest.raises(NotFound):
        router(**{"*": A}).find(name)


def test_many_names_are_not_all_listed() -> None:
    assert "m11, ..." in unknown_model("x", [f"m{number}" for number in range(40)]).message


def test_exposed_targets_are_found_by_provider_and_name() -> None:
    assert names(router(exposed=True, m=A), "b/some/model") == ["b/some/model"]
    for name in ("c/x", "b"):
        with pytest.raises(NotFound):
            router(exposed=True, m=A).find(name)
    with pytest.raises(NotFound):
        router(m=A).find("a/x")


def test_anything_else_does_not_hide_exposed_targets_but_a_longer_prefix_does() -> None:
    one = router(exposed=True, **{"*": A, "b/own*": A})
    assert names(one, "b/some/model") == ["b/some/model"]
    assert names(one, "b/own-model") == ["a/x"]
    assert names(one, "c/other") == ["a/x"]


weights = st.lists(st.floats(0, 1e9), min_size=1, max_size=6).filter(any)


@given(weights, st.floats(0, 1, exclude_max=True))
def test_a_split_always_draws_a_choice_with_weight(given_weights: list[float], drawn: float) -> None:
    choices = tuple((Ref("a", str(at)), weight) for at, weight in enumerate(given_weights))
    (chosen,) = names(router(lambda: drawn, m=Split(choices)), "m")
    assert given_weights[int(chosen.removeprefix("a/"))] > 0


def test_a_split_draws_in_proportion() -> None:
    steps = iter([number / 400 for number in range(400)])
    one = router(lambda: next(steps), m=Split(((A, 3.0), (B, 1.0))))
    assert Counter(names(one, "m")[0] for _ in range(400)) == {"a/x": 300, "b/y": 100}


def test_a_target_that_was_drawn_is_not_tried_twice() -> None:
    one = router(lambda: 0.0, m=Order((Split(((A, 1.0), (B, 1.0))), A, B)))
    assert names(one, "m") == ["a/x", "b/y"]


def test_a_route_without_chance_is_worked_out_once() -> None:
    one = router(m=Order((A, B)))
    assert one.candidates(one.find("m")) is one.candidates(one.find("m"))


def test_the_settings_nearest_to_the_caller_win() -> None:
    one = router(
        outer=ModelConfig(name="outer", targets=Order((Ref(None, "inner"), A)), timeout=5.0, strict=None),
        inner=ModelConfig(name="inner", targets=B, timeout=9.0, first_byte_timeout=2.0, retries=3, strict=True),
    )
    through, direct = one.candidates(one.find("outer"))
    assert (through.deadlines.total, through.deadlines.first_byte, through.deadlines.idle) == (5.0, 2.0, 60.0)
    assert (through.settings.retries, through.settings.strict) == (3, True)
    assert (direct.deadlines.total, direct.deadlines.first_byte) == (5.0, 60.0)
    assert (direct.settings.retries, direct.settings.strict) == (None, None)


def test_nought_retries_are_a_setting_too() -> None:
    one = router(
        outer=ModelConfig(name="outer", targets=Ref(None, "inner"), retries=0),
        inner=ModelConfig(name="inner", targets=A, retries=3),
    )
    assert one.candidates(one.find("outer"))[0].settings.retries == 0
