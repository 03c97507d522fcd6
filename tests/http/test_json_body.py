"""A caller's body: limited while it is read, split without changing a byte, and never with two values for one key."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, RequestTooLarge
from gateway.http.json_body import MAX_FIELDS, CallerDisconnectedError, check_body_headers, parse_body, parse_request, read_body
from gateway.http.json_depth import MAX_CONTAINERS
from providers.base import Body
from tests.support.each import each

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
keys = st.text(max_size=8) | st.sampled_from(["model", "messages", 'quo"te', "back\\slash", "\\", "é", "a,b", "}", "{", ":", "\n"])
objects = st.dictionaries(keys, values, max_size=6)
gaps = st.text(" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, Any]]]:
    """Draw an object's bytes in some valid notation, and its pairs in order."""
    pairs = list(draw(objects).items())
    ascii_only = draw(st.booleans())
    parts = [
        f"{draw(gaps)}{json.dumps(key, ensure_ascii=ascii_only)}{draw(gaps)}:{draw(gaps)}"
        f"{json.dumps(value, ensure_ascii=ascii_only, indent=draw(st.sampled_from([None, 1])))}{draw(gaps)}"
        for key, value in pairs
    ]
    return f"{draw(gaps)}{{{','.join(parts) or draw(gaps)}}}{draw(gaps)}".encode(), pairs


@given(written())
def test_an_unchanged_body_keeps_its_bytes(case: tuple[bytes, list[tuple[str, Any]]]) -> None:
    source, pairs = case
    body = parse_body(source)
    assert body.encode() == source
    assert list(body) == [key for key, _ in pairs]
    assert [body.get(key) for key, _ in pairs] == [value for _, value in pairs]
    assert body.copy().encode() == source


@given(written(), st.data())
def test_a_repeated_key_is_always_found(case: tuple[bytes, list[tuple[str, Any]]], data: st.DataObject) -> None:
    _, pairs = case
    if not pairs:
        pairs = [("model", 1)]
    key, value = data.draw(st.sampled_from(pairs))
    again = data.draw(st.sampled_from([value, None, "other"]))
    pairs = list(pairs)
    pairs.insert(data.draw(st.integers(0, len(pairs))), (key, again))
    comma, colon = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key if ord(letter) < 65536)
    spellings = [json.dumps(key), json.dumps(key, ensure_ascii=False), f'"{escaped}"']
    spelt = [spelling for spelling in spellings if json.loads(spelling) == key]
    parts = [f"{data.draw(st.sampled_from(spelt)) if name == key else json.dumps(name)}{colon}{json.dumps(one)}" for name, one in pairs]
    with pytest.raises(BadRequest) as refused:
        parse_body(("{" + comma.join(parts) + "}").encode())
    assert refused.value.code == "duplicate_key"
    assert refused.value.param == key[:80]


@given(written(), keys, values)
def test_a_changed_key_leaves_the_bytes_of_the_others(case: tuple[bytes, list[tuple[str, Any]]], key: str, value: Any) -> None:
    source, pairs = case
    body = parse_body(source)
    before = {name: body.raw(name) for name in body}
    body.set(key, value)
    changed = Body(body.encode())
    assert list(changed) == [name for name, _ in pairs] + ([key] if key not in before else [])
    assert all(changed.raw(name) == raw for name, raw in before.items() if name != key)
    assert changed.get(key) == value


@each(
    "source",
    [b"", b" ", b"{", b"}", b"null", b"[]", b'"x"', b"1", b"{}x", b"{} {}", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":01}', b'{"a":1,}',
     b'{"a":"\\ud800"}', b'{"a":"\x00"}', b'{"a":"\\q"}', b'\xef\xbb\xbf{}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b"{'a':1}"],
)  # fmt: skip
def test_anything_but_a_json_object_is_a_400(source: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(source)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_million_nested_brackets_are_a_400(opening: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(b'{"a":' + opening * 1_000_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_either_parsed_or_rejected(source: bytes) -> None:
    try:
        body = parse_body(source)
    except BadRequest:
        return
    assert body.encode() == source


@given(written())
def test_an_accepted_body_is_valid_json_throughout(case: tuple[bytes, list[tuple[str, Any]]]) -> None:
    for cut in range(0, len(case[0]), 3):
        broken = case[0][:cut] + case[0][cut + 1 :]
        try:
            parse_body(broken)
        except BadRequest:
            continue
        assert isinstance(json.loads(broken), dict)


def receiver(*messages: MutableMapping[str, Any]) -> Any:
    """Return an ASGI `receive` that yields these messages and fails if called again."""
    left = list(messages)

    async def receive() -> MutableMapping[str, Any]:
        return left.pop(0)

    return receive


def piece(data: bytes, *, more: bool = True) -> dict[str, Any]:
    """Return the message with one piece of a request body."""
    return {"type": "http.request", "body": data, "more_body": more}


async def test_pieces_become_one_body() -> None:
    assert await read_body(receiver(piece(b"ab"), piece(b""), piece(b"cd", more=False)), 4) == b"abcd"
    assert await read_body(receiver(piece(b"abcd", more=False)), 4) == b"abcd"
    assert await read_body(receiver({"type": "http.request"}), 4) == b""


async def test_reading_stops_as_soon_as_a_body_exceeds_the_limit() -> None:
    with pytest.raises(RequestTooLarge):
        await read_body(receiver(piece(b"abcde", more=False)), 4)
    with pytest.raises(RequestTooLarge):
        await read_body(receiver(piece(b"ab"), piece(b"cde")), 4)  # a further `receive` would fail
    with pytest.raises(RequestTooLarge):
        await read_body(receiver(piece(b"ab"), piece(b"cde", more=False)), 4)


async def test_a_disconnect_while_sending_the_body_is_an_error() -> None:
    with pytest.raises(CallerDisconnectedError):
        await read_body(receiver({"type": "http.disconnect"}), 4)
    with pytest.raises(CallerDisconnectedError):
        await read_body(receiver(piece(b"ab"), {"type": "http.disconnect"}), 4)


@each(
    ("name", "value", "status"),
    [
        (b"content-length", b"101", 413),
        (b"content-length", b"9" * 5000, 413),
        (b"content-length", b"+5", 400),
        (b"content-length", b"-5", 400),
        (b"content-length", b"", 400),
        (b"content-encoding", b"gzip", 415),
        (b"content-encoding", b"ZSTD", 415),
        (b"content-type", b"text/plain", 415),
        (b"content-type", b"multipart/form-data; boundary=x", 415),
        (b"content-type", b"application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_is_rejected_by_its_headers_alone(name: bytes, value: bytes, status: int) -> None:
    with pytest.raises(GatewayError) as refused:
        check_body_headers([(name, value)], 100)
    assert refused.value.status == status


@each(
    "header",
    [(b"content-length", b"100"), (b"content-encoding", b"identity"), (b"content-type", b"application/json"),
     (b"content-type", b"Application/JSON; charset=utf-8"), (b"x-other", b"text/plain")],
)  # fmt: skip
def test_valid_headers_pass(header: tuple[bytes, bytes]) -> None:
    check_body_headers([header], 100)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "The request body is empty; send a JSON object."),
        (b" \r\n\t", "The request body is empty; send a JSON object."),
        (b"{", "The request body is not valid JSON: it ends at byte 1, before the JSON is complete."),
        (b'{"model": "m', "The request body is not valid JSON: it ends at byte 12, before the JSON is complete."),
        (b"model=m", "The request body is not valid JSON at byte 0: invalid character."),
        (b"{'a': 1}", "The request body is not valid JSON at byte 1: object keys must be strings."),
        (b'{"a": 1,}', "The request body is not valid JSON at byte 8: trailing comma in object."),
        (b'{"a": NaN}', "The request body is not valid JSON at byte 6: invalid character."),
        (
            b'{"a": "x\\ud83d"}',
            "The request body is not valid JSON at byte 8: a character is cut in half (\\ud800 to \\udfff without its partner).",
        ),
        (b'{"a": "\\\\ud83d}', "The request body is not valid JSON: it ends at byte 15, before the JSON is complete."),
        (b'{"a": 1} x', "The request body is not valid JSON at byte 10: trailing characters."),
        (b"\xef\xbb\xbf{}", "The request body is not valid JSON at byte 0: it begins with a byte order mark."),
        (b"[]", "The request body must be a JSON object."),
        (b"null", "The request body must be a JSON object."),
        (b"\xff{}", "The request body is not valid UTF-8 (byte 0)."),
    ],
)
def test_the_message_says_what_is_wrong_and_where(source: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(source)
    assert (refused.value.message, refused.value.code) == (message, "invalid_json")


@pytest.mark.parametrize(
    ("largest", "one_more"),
    [
        ({"a": [{}] * (MAX_CONTAINERS - 2)}, {"a": [{}] * (MAX_CONTAINERS - 1)}),
        ({str(at): 1 for at in range(MAX_FIELDS)}, {str(at): 1 for at in range(MAX_FIELDS + 1)}),
    ],
    ids=["objects", "fields"],
)
def test_request_with_too_many_parts_is_refused(largest: dict[str, Any], one_more: dict[str, Any]) -> None:
    source = json.dumps(largest, separators=(",", ":")).encode()
    assert parse_request(source).encode() == source
    with pytest.raises(BadRequest) as refused:
        parse_request(json.dumps(one_more).encode())
    assert refused.value.code == "request_too_complex"
    assert refused.value.param == ("a" if "a" in one_more else None)
