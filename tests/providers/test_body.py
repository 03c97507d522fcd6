"""A body keeps the bytes of each value until it changes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.body import MAX_PLAIN_BYTES, MAX_SMALL_BYTES, Body
from tests.support.search import examples

NAMES = st.sampled_from(["a", "b", "c", "d"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


@settings(max_examples=examples(200))
@given(OBJECTS, st.lists(st.tuples(NAMES, VALUES), max_size=3), st.lists(NAMES, max_size=2))
def test_changes_are_those_of_a_dict(source: dict[str, Any], changes: list[tuple[str, Any]], removed: list[str]) -> None:
    spaced = json.dumps(source, indent=1).encode()
    body, expected = Body(spaced), dict(source)
    assert body.encode() == spaced
    twin = body.copy()
    for name, value in changes:
        body.set(name, value)
        expected[name] = value
    for name in removed:
        assert body.pop(name) == expected.pop(name, None)
    assert json.loads(body.encode()) == expected
    assert list(body) == list(expected)
    assert {name: body.get(name) for name in body} == expected
    assert twin.encode() == spaced
    for name in source:
        if name in expected and name not in dict(changes):
            assert body.raw(name) == Body(spaced).raw(name)


def test_large_values_are_decoded_again_after_they_were_forgotten_and_changed_ones_are_kept() -> None:
    large = [1] * MAX_SMALL_BYTES
    body = Body(b'{"a": %b, "b": {"c": 3}}' % json.dumps(large).encode())
    assert body.get("a") == large
    body.set("b", {"d": 4})
    for each in (body, body.copy()):
        each.forget_values()
        assert each._values == {"b": {"d": 4}}
        assert (each.get("a"), each.get("b")) == (large, {"d": 4})
        assert json.loads(each.encode()) == {"a": large, "b": {"d": 4}}


def test_small_values_are_decoded_once() -> None:
    body = Body(b'{"a": [1, 2]}')
    first = body.get("a")
    body.forget_values()
    assert body.get("a") is first


PLAIN = b'[{"role":"system","content":"Be brief."},{"content":"\\u00e9","role":"user"}]'


def test_the_messages_of_a_short_conversation_of_texts_are_plain() -> None:
    messages = Body(b'{"messages":%b}' % PLAIN).plain_messages()
    assert messages is not None
    assert [(message.role, message.content) for message in messages] == [("system", "Be brief."), ("user", "é")]


@pytest.mark.parametrize(
    "messages",
    [
        b"[]",
        b"null",
        b'"text"',
        b'[{"role":"tool","content":"x"}]',
        b'[{"role":"user"}]',
        b'[{"role":"user","content":null}]',
        b'[{"role":"user","content":[{"type":"text","text":"x"}]}]',
        b'[{"role":"user","content":"x","name":"n"}]',
        b'[{"role":"user","content":"%b"}]' % (b"x" * MAX_PLAIN_BYTES),
    ],
)
def test_other_messages_are_not_plain(messages: bytes) -> None:
    assert Body(b'{"messages":%b}' % messages).plain_messages() is None
    assert Body(b"{}").plain_messages() is None


def test_changed_messages_are_read_again() -> None:
    body = Body(b'{"messages":%b,"model":"m"}' % PLAIN)
    copy = body.copy()
    assert body.plain_messages() is body.plain_messages()
    body.set("messages", [{"role": "user", "content": "other"}])
    assert body.plain_messages() is None
    assert len(copy.plain_messages() or ()) == 2
    copy.pop("messages")
    assert copy.plain_messages() is None


def test_a_body_without_its_large_values_keeps_the_others_and_is_never_encoded() -> None:
    messages = b'[{"role":"user","content":"%b"}]' % (b"x" * 300)
    body = Body(b'{"model":"m","messages":%b,"max_tokens":9,"stop":null,"user":"u"}' % messages)
    assert body.get("messages")[0]["role"] == "user"
    body.set("user", "other")
    body.drop_large()
    assert list(body) == ["model", "max_tokens", "stop", "user"]
    assert (body.get("model"), body.get("max_tokens"), body.get("stop"), body.get("user")) == ("m", 9, None, "other")
    assert (body.get("messages"), body.raw("messages"), body.plain_messages()) == (None, None, None)
    for each in (body, body.copy()):
        with pytest.raises(RuntimeError):
            each.encode()


@settings(max_examples=examples(200))
@given(
    st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=3), st.dictionaries(NAMES, VALUES, max_size=2)),
    st.sampled_from([None, 1, 400]),
    st.sampled_from(["", "x" * MAX_SMALL_BYTES]),
)
def test_whether_a_value_is_true_does_not_depend_on_its_size_and_its_spaces(value: Any, indent: int | None, padding: str) -> None:
    padded = [*value, padding] if isinstance(value, list) and padding else value
    body = Body(json.dumps({"a": padded}, indent=indent).encode())
    assert body.is_true("a") is bool(padded)
    assert body.is_true("b") is False
    body.set("a", [])
    assert body.is_true("a") is False


def test_the_key_of_large_values_is_that_of_their_bytes() -> None:
    large, small = json.dumps([1] * MAX_SMALL_BYTES).encode(), b"[1]"
    body = Body(b'{"a": %b, "b": %b}' % (large, small))
    key = body.key_of(("a", "b", "c"))
    assert key is not None
    assert key == Body(b'{"b": %b, "a": %b}' % (small, large)).key_of(("a", "b", "c"))
    assert key != Body(b'{"a": %b, "b": [2]}' % large).key_of(("a", "b", "c"))
    assert key != Body(b'{"a": %b, "b": [1]}' % large.replace(b"1]", b"2]")).key_of(("a", "b", "c"))
    assert key != body.key_of(("b", "a", "c"))
    assert key == body.copy().key_of(("a", "b", "c"))
    assert body.key_of(("b", "c")) is None, "small values are not worth a key"
    body.set("b", [2])
    assert body.key_of(("a", "b")) is None
    body.set("b", None)
    body.rename("a", "d")
    assert body.key_of(("d",)) == key[:1]
    assert body.key_of(("a",)) is None


def test_a_body_without_its_large_values_does_not_keep_its_source() -> None:
    source = json.dumps({"model": "m", "tools": ["x" * MAX_SMALL_BYTES]}).encode()
    references = sys.getrefcount(source)
    body = Body(source)
    body.key_of(("tools",))
    copy = body.copy()
    for each in (body, copy):
        each.drop_large()
    assert sys.getrefcount(source) == references
