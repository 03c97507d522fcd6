"""Models that providers list: precedence, and names that may be listed."""

from __future__ import annotations

import pytest

from gateway.config.load import parse
from gateway.errors import NotFound, Unavailable
from gateway.routing.discovered import DiscoveredModels, discovered_models
from gateway.routing.router import Router
from gateway.targets.candidate import Model
from tests.routing.test_router import backend_of

TEXT = """
providers:
  a: { type: vllm, base_url: "http://a/v1", discover: true }
  b: { type: vllm, base_url: "http://b/v1", discover: { as: "*" } }
  c: { type: vllm, base_url: "http://c/v1", discover: { as: "*" } }
models: { named: a/x, "gpt-*": a/gpt, %s }
"""


def router(lists: dict[str, tuple[str, ...] | None], more: str = "", *, exposed: bool = False) -> Router:
    """Return a router for TEXT and these lists."""
    config = parse((TEXT % more).encode(), "g.yaml", environ={})
    models = {name: Model(name, one.targets, one) for name, one in config.models.items()}
    one = Router(models, backend_of, expose_targets=exposed, providers=frozenset(config.providers))
    one.discovered = discovered_models(config.providers, config.models, lists)
    return one


def target(one: Router, name: str) -> str:
    """Return the only target of a model."""
    (candidate,) = one.candidates(one.find(name))
    return candidate.backend.target.name


def test_names_and_prefixes_of_the_file_come_first_then_lists_in_the_order_of_providers_then_the_catch_all() -> None:
    lists: dict[str, tuple[str, ...] | None] = {"a": ("llama", "org/q"), "b": ("llama", "named", "gpt-5"), "c": ("llama", "last")}
    one = router(lists, "'*': a/rest")
    found = {name: target(one, name) for name in ("a/llama", "a/org/q", "llama", "named", "gpt-5", "last", "a/unlisted")}
    assert found == {
        "a/llama": "a/llama", "a/org/q": "a/org/q", "llama": "b/llama", "named": "a/x", "gpt-5": "a/gpt", "last": "c/last",
        "a/unlisted": "a/rest",
    }  # fmt: skip
    assert one.names() == ["named", "a/llama", "a/org/q", "llama", "last"]


def test_a_new_list_replaces_the_old_one() -> None:
    one = router({"a": ("old",), "b": ("m",), "c": ()})
    assert [target(one, "a/old"), target(one, "m")] == ["a/old", "b/m"]
    one.discovered = discovered_models(parse((TEXT % "").encode(), "g.yaml", environ={}).providers, (), {"a": (), "b": (), "c": ("m",)})
    assert target(one, "m") == "c/m"
    with pytest.raises(NotFound):
        one.find("a/old")


def test_a_name_that_an_unread_list_may_have_is_unavailable_and_others_are_not_found() -> None:
    one = router({"a": None, "b": ("llama",), "c": ()})
    with pytest.raises(Unavailable) as refused:
        one.find("a/any")
    assert (refused.value.code, refused.value.status) == ("models_not_listed", 503)
    assert "'a'" in refused.value.message
    with pytest.raises(NotFound):
        one.find("any")
    assert target(router({"a": None}, "'*': a/rest"), "a/any") == "a/rest"
    assert target(router({"a": None}, exposed=True), "a/any") == "a/any"


def test_a_dry_run_assumes_that_an_unread_list_has_the_name() -> None:
    one = router({"a": None, "b": (), "c": ()})
    one.discovered.assumes = True
    assert target(one, "a/any") == "a/any"
    assert DiscoveredModels().find("a/any") is None
