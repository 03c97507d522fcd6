"""Patterns that pass the caller's model name, or a part of it, to their targets."""

from __future__ import annotations

from gateway.config.model import ModelConfig
from gateway.config.route import Order, Ref, Split
from gateway.routing.passed_names import passes_names
from tests.routing.test_router import names, router
from tests.support.each import each

ROUTES = {
    "*": Ref("a", "*"),
    "gpt-*": Order((Ref("b", "openai/gpt-*"), Ref("a", "x"))),
    "claude-*": ModelConfig("claude-*", targets=Split(((Ref("a", "c-*"), 1.0), (Ref("b", "*"), 1.0)))),
    "fixed": Ref("a", "x"),
}


@each(
    ("name", "targets"),
    [
        ("anthropic/any", ["a/anthropic/any"]),
        ("gpt-5", ["b/openai/gpt-5", "a/x"]),
        ("claude-opus", ["a/c-opus"]),
        ("fixed", ["a/x"]),
        ("gpt-", ["b/openai/gpt-", "a/x"]),
    ],
)
def test_the_matched_part_of_the_name_takes_the_place_of_the_star(name: str, targets: list[str]) -> None:
    assert names(router(**ROUTES), name) == targets


def test_names_that_callers_invent_are_not_kept() -> None:
    one = router(**ROUTES)
    for number in range(50):
        for prefix in ("", "gpt-", "claude-"):
            name = f"{prefix}{number}"
            assert names(one, name)[0].endswith(str(number))
            assert one.find(name).name == f"{prefix}*"
    assert [len(cache) for cache in (one._fixed, one._candidates, one._options)] == [0, 0, 0]


def test_a_route_passes_names_if_one_of_its_targets_has_a_star() -> None:
    passing = [name for name, route in ROUTES.items() if passes_names(route.targets if isinstance(route, ModelConfig) else route)]
    assert passing == ["*", "gpt-*", "claude-*"]
