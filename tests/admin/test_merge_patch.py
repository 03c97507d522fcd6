"""JSON Merge Patch as RFC 7396 defines it, and the description of a change."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.key_json import _read, key_to_json
from gateway.admin.merge_patch import changed, merge, removed
from gateway.config.key import KeyConfig, ModelAccess
from gateway.config.limit import LimitsConfig
from gateway.config.problem import Problems
from gateway.config.struct_types import struct_type
from gateway.keys.limit_states import limits_of_entry
from gateway.store.from_config import limits_in
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
    assert removed(before, after) == {"models.b": "b"}
    assert changed(before, after) == {"models": {"from": before["models"], "to": after["models"]}}


M, LIMITED = {"limits": {"requests": "1/min"}}, {"limits": {"requests": ["1/s", "5/min"], "spend": "5 USD/day"}}


@each(
    ("before", "after", "gone"),
    [
        ({"models": {"m": M}}, {}, {"models": {"m": M}, "models.m.limits.requests": "1/min"}),
        ({"models": {"m": M, "n": {}}}, {"models": {"n": {}}}, {"models.m": M, "models.m.limits.requests": "1/min"}),
        ({"models": {"m": {}, "n": {}}}, {"models": {"n": {}}}, {"models.m": {}}),
        ({"models": {"m": {}}}, {"models": {}}, {"models.m": {}}),
        ({"models": {"m": M}}, {"models": {"m": {}}}, {"models.m.limits.requests": "1/min"}),
        ({"models": {"m": M}}, {"models": ["m"]}, {"models.m.limits.requests": "1/min"}),
        ({"models": ["m", "n"]}, {"models": {"m": M}}, {"models.n": "n"}),
        ({"models": ["m", "n"]}, {"models": ["n"]}, {"models.m": "m"}),
        ({"models": ["m", "n"]}, {}, {"models": ["m", "n"]}),
        ({"models": ["m"]}, {"models": ["m", "n"]}, {}),
        ({"models": ["m"]}, {"models": {"m": {}}}, {}),
        ({"passthrough": ["/a", "/b"]}, {"passthrough": ["/a"]}, {"passthrough./b": "/b"}),
        ({"bring_credentials": ["a"]}, {}, {"bring_credentials": ["a"]}),
        (LIMITED, {"limits": {"requests": "5/min"}}, {"limits.requests": "1/s", "limits.spend": "5 USD/day"}),
        (LIMITED, {"limits": {"requests": "3/s", "spend": "5 USD/week"}}, {"limits.requests": "5/min", "limits.spend": "5 USD/day"}),
        (LIMITED, {}, {"limits.requests": ["1/s", "5/min"], "limits.spend": "5 USD/day"}),
        ({"team": "t", "strict": True}, {"team": "u"}, {"strict": True}),
        ({"models": {"a": M, "a.limits.requests": {}}}, {"models": {"a": M}}, {"models.a.limits.requests": {}}),
    ],
)
def test_everything_that_a_change_takes_away_is_named(before: dict[str, Any], after: dict[str, Any], gone: dict[str, Any]) -> None:
    assert removed(before, after) == gone


def test_a_mapping_of_models_that_becomes_a_list_is_changed() -> None:
    before, after = {"models": {"m": M, "n": {}}}, {"models": ["m"]}
    assert changed(before, after) == {"models": {"from": before["models"], "to": ["m"]}}
    assert changed({"models": {"m": {}}}, {"models": {"m": M}}) == {"models.m": {"from": {}, "to": M}}


RATES = st.lists(st.sampled_from(["1/s", "2/s", "5/min", "9/min", "1k/h"]), unique_by=lambda rate: rate[-1], min_size=1, max_size=3)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "requests": RATES,
        "output_tokens": RATES,
        "concurrent": st.integers(1, 3),
        "spend": st.lists(st.sampled_from(["1 USD/day", "2 USD/day", "3 USD/total"]), unique_by=lambda rate: rate[-1], min_size=1),
        "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
        "strict": st.booleans(),
    },
)
NAME = st.sampled_from(["m", "m*", "*", "limits.requests"])
NAMES = st.lists(NAME, unique=True)
ACCESS = st.fixed_dictionaries({}, optional={"limits": LIMITS})
ENTRIES = st.fixed_dictionaries(
    {"hash": st.just("sha256:" + "ab" * 32)},
    optional={
        "models": NAMES | st.dictionaries(NAME, ACCESS, max_size=3),
        "passthrough": NAMES,
        "bring_credentials": NAMES,
        "team": st.sampled_from(["t", "u"]),
        "expires": st.just("2999-01-02"),
        "disabled": st.booleans(),
        "strict": st.booleans(),
        "require_end_user": st.booleans(),
        "capture": st.sampled_from(["none", "content"]),
        "priority": st.integers(1, 3),
        "limits": LIMITS,
        "limits_per_user": LIMITS,
    },
)
LISTS = ("models", "passthrough", "bring_credentials")


def taken_away(before: KeyConfig, after: KeyConfig) -> set[str]:
    """Return the paths of all that a key loses, from the limits and settings that apply to calls."""
    here, blocks = {limit.key for limit in limits_of_entry(after)}, ("limits", "limits_per_user")
    lost = {
        f"models.{limit.model}.limits.{limit.kind}" if limit.model else f"limits.{limit.kind}"
        for limit in limits_of_entry(before)
        if limit.key not in here
    }
    here = {limit.key for limit in limits_in(after.limits_per_user, "")}
    lost |= {f"limits_per_user.{limit.kind}" for limit in limits_in(before.limits_per_user, "") if limit.key not in here}
    for field in KeyConfig.__struct_fields__:
        old, new = (getattr(key, field) for key in (before, after))
        if field in ("name", "hash", "disabled", *blocks):
            continue
        if _is_set(field, old) and not _is_set(field, new):
            lost.add(field)
        elif field in LISTS and old:
            lost |= {f"{field}.{name}" for name in old if name not in new}
    for block, old_block, new_block in [
        *((name, getattr(before, name), getattr(after, name)) for name in blocks),
        *((f"models.{name}.limits", access.limits, _block_of(after, name)) for name, access in _accesses(before)),
    ]:
        lost |= {
            f"{block}.{field}"
            for field in ("timezone", "outage", "strict")
            if getattr(old_block, field) != getattr(new_block, field) == getattr(LimitsConfig(), field)
        }
    return lost


def _is_set(field: str, value: Any) -> bool:
    return value != getattr(KeyConfig("", ""), field) and (field, value) != ("strict", False)


def _accesses(key: KeyConfig) -> list[tuple[str, ModelAccess]]:
    return list(key.models.items()) if isinstance(key.models, dict) else []


def _block_of(key: KeyConfig, name: str) -> LimitsConfig:
    return dict(_accesses(key)).get(name, ModelAccess()).limits


@given(ENTRIES, ENTRIES)
def test_removed_names_exactly_what_a_key_loses(before: dict[str, Any], after: dict[str, Any]) -> None:
    keys = [_read(Problems("test"), "key", struct_type(KeyConfig), "keys.k", "k", entry) for entry in (before, after)]
    found = removed(*({"disabled": False, **key_to_json(key)} for key in keys))
    assert set(found) == taken_away(*keys)
