"""JSON Merge Patch as RFC 7396 defines it, and the description of a change."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.merge_patch import changed, merge, removed
from tests.support.each import each

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]
"""The test cases of appendix A of RFC 7396."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@each("target, patch, expected", RFC_7396)
def test_a_patch_merges_as_in_the_rfc(target: Any, patch: Any, expected: Any) -> None:
    assert merge(target, patch) == expected


@given(DOCUMENTS, DOCUMENTS)
def test_a_repeated_patch_changes_nothing(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


@given(DOCUMENTS, DOCUMENTS)
def test_nothing_is_removed_or_changed_exactly_if_the_members_are_kept(before: dict[str, Any], after: dict[str, Any]) -> None:
    kept = merge(before, {})
    assert removed(kept, kept) == changed(kept, kept) == {}
    for path in removed(before, after):
        assert path.split(".")[0] in before
    for path, values in changed(before, after).items():
        assert values["from"] != values["to"], path


def test_a_change_names_what_it_removed_and_changed() -> None:
    before = {"limits": {"requests": "5/min", "spend": "5 USD/day"}, "models": ["a"], "strict": True}
    after = {"limits": {"requests": ["1/s", "5/min"]}, "models": ["a"], "team": "t"}
    assert removed(before, after) == {"limits.spend": "5 USD/day", "strict": True}
    assert changed(before, after) == {"limits.requests": {"from": "5/min", "to": ["1/s", "5/min"]}}


def test_a_list_that_becomes_an_object_is_changed() -> None:
    before, after = {"models": ["a", "b"]}, {"models": {"a": {"limits": {"requests": "1/s"}}}}
    assert removed(before, after) == {}
    assert changed(before, after) == {"models": {"from": before["models"], "to": after["models"]}}
