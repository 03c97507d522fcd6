"""Finds differences between a caller's request and the upstream requests that its receipt does not list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from providers.rules.request_headers import NOT_REPORTED

Adjustments = list[dict[str, Any]]
OWN_HEADERS = frozenset({
    "host", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "authorization", "api-key", "x-api-key",
    "anthropic-version",
})  # fmt: skip
"""Headers that every request to a provider has."""
CARRIERS = {
    "system": ("messages", "system_prompt"),
    "thinking": ("reasoning_effort", "reasoning_budget", "disable_reasoning"),
    "output_config": ("reasoning_effort", "reasoning_budget", "disable_reasoning", "thinking", "response_format", "verbosity"),
}
"""Fields of Anthropic's format, and the parameters whose adjustments announce them."""
ROUTING = frozenset({"model"})
"""Fields that the receipt has in another place (`target`)."""
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = msgspec.json.decode


def fields(body: bytes) -> dict[str, bytes]:
    """Return the top-level fields of a JSON object with the bytes of their values."""
    return {name: bytes(raw) for name, raw in _decode(body).items()}


def root(param: str) -> str:
    """Return the top-level field of a parameter: `messages[0].name` is `messages`."""
    return re.split(r"[.\[]", param)[0]


def is_reported(name: str, adjustments: Adjustments) -> bool:
    """Return whether an adjustment names a field, as the field that is changed or as the field that replaces it."""
    return any(name in (root(each["param"]), root(str(each.get("to")))) for each in adjustments)


def unreported(request: bytes, headers: dict[str, str], upstream: Any, adjustments: Adjustments) -> Iterator[str]:
    """Yield the differences that are not reported."""
    asked, sent = fields(request), fields(upstream.body)
    for name, raw in asked.items():
        if name in ROUTING or is_reported(name, adjustments):
            continue
        if name not in sent:
            yield f"'{name}' was not sent"
        elif sent[name] != raw:
            yield f"'{name}' was sent as {sent[name][:200]!r} instead of {raw[:200]!r}"
    for name, raw in sent.items():
        if name not in asked and not any(is_reported(each, adjustments) for each in (name, *CARRIERS.get(name, ()))):
            yield f"'{name}' was added: {raw[:200]!r}"
    yield from _unreported_messages(_value(asked["messages"]), _value(sent.get("messages", b"[]")), adjustments)
    received = dict(upstream.headers)
    if len(received) != len(upstream.headers):
        yield "a header was sent twice"
    moved = {str(each["to"]).lower() for each in adjustments if each["action"] == "move_to_header"}
    for name, value in headers.items():
        if name in NOT_REPORTED and name not in received:
            continue
        if name not in moved and received.get(name) != value and not is_header_reported(name, adjustments):
            yield f"header '{name}' was {received.get(name)!r} instead of {value!r}"
    for name in received:
        if name not in OWN_HEADERS and name not in headers and name not in moved:
            yield f"header '{name}' was added"


def _unreported_messages(asked: list[Any], sent: list[Any], adjustments: Adjustments) -> Iterator[str]:
    """Yield the messages that differ although only other messages are reported as changed; `messages[]` sums up many."""
    about = [each["param"] for each in adjustments if root(each["param"]) in ("messages", "system_prompt")]
    whole = [param for param in about if re.fullmatch(r"messages\[\d+\]", param)]
    if len(asked) != len(sent) or len(whole) > 1 or not all(param.startswith("messages[") for param in about):
        return  # messages were added or joined, so that the others have other positions
    for index, (before, after) in enumerate(zip(asked, sent, strict=True)):
        if before != after and not any(param.startswith((f"messages[{index}]", "messages[]")) for param in about):
            yield f"messages[{index}] was sent as {after}"


def is_header_reported(name: str, adjustments: Adjustments) -> bool:
    """Return whether an adjustment is about a header."""
    return any(each["param"] == name for each in adjustments)


def invented(request: bytes, upstream: Any, adjustments: Adjustments) -> Iterator[str]:
    """Yield adjustments that did not happen, as far as the request shows."""
    asked, sent = fields(request), fields(upstream.body)
    renamed = {root(each["to"]) for each in adjustments if each["action"] != "drop" and type(each.get("to")) is str}
    written = {root(each["param"]) for each in adjustments if each["action"] in ("set_default", "reshape", "downgrade", "clamp")}
    for each in adjustments:
        param, action = each["param"], each["action"]
        if root(param) != param:
            continue
        if action == "drop" and param in asked and sent.get(param) == asked[param]:
            yield f"'{param}' is said to be dropped, but was sent"
        if action == "drop" and param not in asked and param in sent and param not in renamed | written:
            yield f"'{param}' is said to be dropped, but was sent and never asked for"
        if action == "clamp" and not _contains(sent, each.get("to")):
            yield f"'{param}' is said to be clamped to {each.get('to')}, which was not sent"
        if action == "set_default" and param in asked and asked[param] not in (b"null",) and sent.get(param) == asked[param]:
            yield f"'{param}' is said to be set by default, but the caller's value was sent"
        if action == "move_to_header" and each["to"].lower() not in dict(upstream.headers):
            yield f"'{param}' is said to be moved to a header that was not sent"


def _contains(sent: dict[str, bytes], value: Any) -> bool:
    return any(_equal_within(_value(raw), value) for name, raw in sent.items() if name != "messages")


def _equal_within(found: Any, value: Any) -> bool:
    if found == value:
        return True
    parts = found.values() if type(found) is dict else found if type(found) is list else ()
    return any(_equal_within(part, value) for part in parts)
