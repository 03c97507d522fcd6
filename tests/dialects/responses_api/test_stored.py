"""Stored responses: the parameters of a request, the items as the API lists them, and their pages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.dialects.responses_api.stored import (
    final_response,
    input_items,
    list_items,
    mark,
    read_record,
    read_wishes,
    write_record,
)
from gateway.dialects.responses_api.values import Raw
from gateway.errors import BadRequest
from tests.dialects.responses_api.grammar import translator
from tests.support.each import each

RESPONSE = Raw(b'{"id":"resp_0a","store":true,"output":[{"type":"message","id":"msg_0a_0"}]}')


def stored_items(*items: Any) -> list[dict[str, Any]]:
    """Return the items of a record as the API lists them."""
    record = read_record(write_record(RESPONSE, [Raw(json.dumps(item).encode()) for item in items]))
    found: list[dict[str, Any]] = json.loads(msgspec.json.encode(list_items(record.items, {"order": "asc"})))["data"]
    return found


@each(
    ("body", "wishes"),
    [
        ({"store": True}, (True, None)),
        ({"store": True, "previous_response_id": "r"}, (True, "r")),
        ({"previous_response_id": "r", "store": False}, (False, "r")),
        ({"store": False}, None),
        ({"store": None, "previous_response_id": None}, None),
        ({"store": "yes", "previous_response_id": 3}, None),
        ({"input": 'set "store": true'}, None),
        ({"input": "hello"}, None),
        ({"metadata": {"store": True}}, None),
    ],
)
def test_wishes_of_a_body(body: dict[str, Any], wishes: tuple[bool, str | None] | None) -> None:
    found = read_wishes(json.dumps(body).encode())
    assert (found and (found.stores, found.previous)) == wishes


def test_escaped_names_are_read_and_invalid_bodies_ask_for_nothing() -> None:
    found = read_wishes(b'{"\\u0073tore":true}')
    assert found is not None
    assert found.stores
    assert [read_wishes(body) for body in (b'{"store":', b'["store"]', b'"store"', b"")] == [None] * 4


def test_text_becomes_a_message_of_the_user() -> None:
    items = [json.loads(bytes(item)) for item in input_items(Raw(b'"Hi \\u00e9"'))]
    assert items == [{"type": "message", "role": "user", "content": "Hi é"}]
    assert stored_items(*items) == [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi é"}],
            "id": "msg_0a_in0",
            "status": "completed",
        }
    ]


def test_items_are_sent_on_as_the_caller_wrote_them() -> None:
    item = {"role": "user", "content": "Hi"}
    record = read_record(write_record(RESPONSE, [Raw(json.dumps(item).encode())]))
    assert json.loads(bytes(record.items[0])) == {**item, "id": "msg_0a_in0"}


def test_items_get_the_members_that_the_api_lists() -> None:
    items = stored_items(
        {"role": "assistant", "content": "x"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1", "status": "incomplete"},
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "y"}], "id": "mine"},
    )
    assert items[0]["content"] == [{"type": "output_text", "annotations": [], "text": "x"}]
    assert [item["id"] for item in items] == ["msg_0a_in0", "fc_0a_in1", "fco_0a_in2", "rs_0a_in3", "mine"]
    assert [item.get("status") for item in items] == ["completed", "completed", "incomplete", None, "completed"]


def test_ids_are_unique_even_if_the_caller_repeats_them() -> None:
    message = {"role": "user", "content": [], "id": "same"}
    assert [item["id"] for item in stored_items(message, message, message)] == ["same", "msg_0a_in1", "msg_0a_in2"]


def test_conversation_ends_with_the_output() -> None:
    record = read_record(write_record(RESPONSE, input_items(Raw(b'"Hi"'))))
    assert [json.loads(bytes(item))["id"] for item in record.conversation()] == ["msg_0a_in0", "msg_0a_0"]


ITEMS = [Raw(b'{"id":"i%d"}' % number) for number in range(5)]


@each(
    ("query", "ids", "more"),
    [
        ({}, "43210", False),
        ({"order": "asc"}, "01234", False),
        ({"limit": "2"}, "43", True),
        ({"limit": "2", "after": "i3"}, "21", True),
        ({"limit": "2", "after": "i1"}, "0", False),
        ({"limit": "3", "after": "i1", "order": "asc"}, "234", False),
        ({"limit": "100"}, "43210", False),
        ({"after": "i0"}, "", False),
    ],
)
def test_page_of_items(query: dict[str, str], ids: str, more: bool) -> None:
    page = json.loads(msgspec.json.encode(list_items(ITEMS, query)))
    found = "".join(item["id"][1:] for item in page["data"])
    ends = [f"i{ids[0]}", f"i{ids[-1]}"] if ids else [None, None]
    assert (found, page["has_more"], page["object"]) == (ids, more, "list")
    assert [page["first_id"], page["last_id"]] == ends


@each("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "-1"}, {"limit": "x"}, {"limit": "²"}, {"order": "up"}, {"after": "no"}])
def test_invalid_page_is_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as refused:
        list_items(ITEMS, query)
    assert refused.value.param == next(iter(query))


def test_last_event_has_the_response() -> None:
    events = b'event: a\ndata: {"x":1}\n\nevent: response.completed\ndata: {"type":"t","response":' + bytes(RESPONSE) + b"}\n\n"
    found = final_response(events)
    assert found is not None
    assert bytes(found) == bytes(RESPONSE)
    assert final_response(b'event: error\ndata: {"type":"error"}\n\n') is None


def test_response_says_whether_it_is_stored() -> None:
    given = Raw(b'{"id":"r","store":true,"previous_response_id":null}')
    assert mark(given, store=True, previous=None) is given
    assert json.loads(bytes(mark(given, store=False, previous="p"))) == {"id": "r", "store": False, "previous_response_id": "p"}
    assert json.loads(bytes(mark(Raw(b'{"id":"r"}'), store=False, previous=None)))["store"] is False


def test_ids_of_a_stored_response_are_the_gateways_own() -> None:
    """An upstream may use an id twice, or one that others can guess."""
    completion = json.dumps({"id": "chatcmpl-1", "choices": [{"message": {"content": "x"}}]}).encode()
    first, second, plain = (json.loads(translator(store=store).answer(completion)) for store in (True, True, False))
    assert first["id"] != second["id"]
    assert first["output"][0]["id"] == f"msg_{first['id'].removeprefix('resp_')}_0"
    assert (plain["id"], plain["store"], first["store"]) == ("resp_1", False, True)
