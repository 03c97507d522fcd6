"""The record of a stored response: the response itself, and the earlier items of its conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.dialects.responses_api.values import ABSENT, Raw, encode, is_absent, is_string
from gateway.errors import BadRequest, refuse

MAX_PAGE = 100
DEFAULT_PAGE = 20
_PREFIXES = {
    "message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco", "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}  # fmt: skip
"""The prefixes of the ids of items."""

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_ESCAPE = b"\\u"


class StoreWishes(msgspec.Struct):
    """The parameters of a request that concern the store."""

    store: Raw = ABSENT
    previous_response_id: Raw = ABSENT

    @property
    def stores(self) -> bool:
        """Whether the response is to be stored."""
        return bytes(self.store) == b"true"

    @property
    def previous(self) -> str | None:
        """The id of the previous response; None if the id is absent or not a string."""
        return _decode_text(self.previous_response_id) if is_string(self.previous_response_id) else None


class StoredResponse(msgspec.Struct):
    """A stored response."""

    response: Raw
    items: list[Raw]
    """All items of the conversation before the response, those of earlier turns first. They are as they were sent or
    returned, except that each has an id of its own.
    """

    def conversation(self) -> list[Raw]:
        """Return the items of the conversation up to and including this response."""
        return [*self.items, *_decode_list(_decode_fields(self.response)["output"])]


_decode_wishes = msgspec.json.Decoder(StoreWishes).decode
_decode_record = msgspec.json.Decoder(StoredResponse).decode


def read_wishes(source: bytes) -> StoreWishes | None:
    """Return the parameters for the store, or None if a body does not use the store. An invalid body is refused later."""
    if b'"store"' not in source and b'"previous_response_id"' not in source and _ESCAPE not in source:
        return None
    try:
        wishes = _decode_wishes(source)
        return wishes if wishes.stores or wishes.previous is not None else None
    except (msgspec.DecodeError, RecursionError):
        return None


def read_record(record: bytes) -> StoredResponse:
    """Decode a record."""
    return _decode_record(record)


def write_record(response: Raw, items: Sequence[Raw]) -> bytes:
    """Return the record of a response. Items without an id, or with the id of an earlier item, get a new id."""
    base = id_of(response).removeprefix("resp_")
    seen: set[bytes] = set()
    named = []
    for index, item in enumerate(items):
        members = _decode_fields(item)
        given = bytes(members.get("id", ABSENT))
        has_id = is_string(Raw(given)) and given not in seen
        named.append(item if has_id else _named(members, f"{base}_in{index}"))
        seen.add(given)
    return encode(StoredResponse(response, named))


def input_items(raw: Raw) -> list[Raw]:
    """Return the items of `input`. A text is one item."""
    if is_string(raw):
        return [Raw(encode({"type": "message", "role": "user", "content": raw}))]
    return _decode_list(raw)


def _kind(members: Mapping[str, Raw]) -> str:
    return _decode_text(members["type"]) if is_string(members.get("type", ABSENT)) else "message"


def _named(members: Mapping[str, Raw], name: str) -> Raw:
    """Return an input item with an id that ends with `name`."""
    return Raw(encode({**members, "id": f"{_PREFIXES.get(_kind(members), 'item')}_{name}"}))


def _complete(members: Mapping[str, Raw]) -> dict[str, Any]:
    """Return an input item as OpenAI lists it: with type and status, and with content as a list of parts."""
    kind = _kind(members)
    item: dict[str, Any] = {**members, "type": kind}
    if kind == "message" and is_string(content := members.get("content", ABSENT)):
        is_answer = bytes(members["role"]) == b'"assistant"'
        part: dict[str, Any] = {"type": "output_text", "annotations": []} if is_answer else {"type": "input_text"}
        item["content"] = [{**part, "text": content}]
    if is_absent(members.get("status", ABSENT)) and kind != "reasoning":
        item["status"] = "completed"
    return item


def list_items(items: Sequence[Raw], query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page of input items. Raise BadRequest for an invalid parameter."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise refuse("order", f"'order' must be asc or desc, not '{order[:40]}'.")
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_PAGE):
        raise refuse("limit", f"'limit' must be an integer from 1 to {MAX_PAGE}, not '{limit[:40]}'.")
    decoded = [_decode_fields(item) for item in items]
    ids = [_decode_text(members["id"]) for members in decoded]
    numbers = list(range(len(items)) if order == "asc" else reversed(range(len(items))))
    start = 0
    if (after := query.get("after")) is not None:
        if after not in ids:
            raise refuse("after", f"'after' must be the id of an item of this response, not '{after[:80]}'.")
        start = numbers.index(ids.index(after)) + 1
    page = numbers[start : start + int(limit)]
    return {
        "object": "list",
        "data": [_complete(decoded[number]) for number in page],
        "first_id": ids[page[0]] if page else None,
        "last_id": ids[page[-1]] if page else None,
        "has_more": start + len(page) < len(items),
    }


def final_response(events: bytes) -> Raw | None:
    """Return the response in the last event of a stream, or None if the stream ended with another event."""
    return _decode_fields(events.rpartition(b"\ndata: ")[2]).get("response")


def id_of(response: Raw) -> str:
    """Return the id of a response."""
    return _decode_text(_decode_fields(response)["id"])


def mark(response: Raw, *, store: bool, previous: str | None) -> Raw:
    """Return a response whose `store` and `previous_response_id` have these values."""
    members = _decode_fields(response)
    found = bytes(members.get("store", ABSENT)), members.get("previous_response_id", ABSENT)
    if found[0] == encode(store) and bytes(found[1]) == encode(previous):
        return response
    return Raw(encode({**members, "store": store, "previous_response_id": previous}))


def not_found(id: str) -> BadRequest:
    """Return the 400 for an unknown previous response."""
    message = f"Previous response with id '{id[:80]}' not found: it may have expired, or it belongs to another key."
    return refuse("previous_response_id", message, "previous_response_not_found")
