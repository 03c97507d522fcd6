"""The models that a virtual key allows."""

from __future__ import annotations

from gateway.keys.virtual_key import VirtualKey, limits_for, matches_any, may_pass, may_use
from gateway.store.limit import Limit
from tests.support.each import each


def test_a_key_allows_the_names_in_its_list() -> None:
    limited = VirtualKey("k", models=frozenset({"smart"}))
    assert may_use(limited, "smart")
    assert not may_use(limited, "fast")
    assert not may_use(VirtualKey("k", models=frozenset()), "fast")


def test_a_key_allows_the_passed_paths_in_its_list() -> None:
    limited = VirtualKey("k", passthrough=frozenset({"/v1/audio/*", "/v1/f*"}))
    assert [may_pass(limited, pattern) for pattern in ("/v1/audio/*", "/v1/files/*", "/v1/images/*")] == [True, True, False]
    assert not may_pass(VirtualKey("k", passthrough=frozenset()), "/v1/files/*")
    assert may_pass(VirtualKey("k"), "/v1/files/*")
    assert may_pass(None, "/v1/files/*")


def test_a_key_without_a_list_allows_every_model() -> None:
    assert may_use(VirtualKey("k"), "fast")


def test_without_a_key_every_model_is_allowed() -> None:
    assert may_use(None, "fast")


@each(
    ("model", "patterns", "matches"),
    [
        ("claude-3-opus", {"claude-*", "smart"}, True),
        ("claude-", {"claude-*"}, True),
        ("gpt-claude-3", {"claude-*"}, False),
        ("claude-*", {"claude-*"}, True),
        ("anything", {"*"}, True),
        ("smart", set(), False),
    ],
)
def test_a_pattern_matches_by_prefix(model: str, patterns: set[str], matches: bool) -> None:
    assert matches_any(model, patterns) is matches


@each(
    ("model", "windows"),
    [
        ("gpt-5-mini", ["all", "gpt-5*", "gpt-5-mini"]),
        ("gpt-5", ["all", "gpt-5*"]),
        ("gpt-4o", ["all"]),
        ("", ["all"]),
    ],
)
def test_all_limits_that_match_the_model_apply(model: str, windows: list[str]) -> None:
    patterns = ("gpt-5*", "gpt-5-mini")
    own = tuple((pattern, (Limit("key:k", "requests", 1, "h", model=pattern),)) for pattern in patterns)
    key = VirtualKey("k", limits=(Limit("key:k", "requests", 1, "h"),), model_limits=own)
    assert [limit.model or "all" for limit in limits_for(key, model)] == windows
