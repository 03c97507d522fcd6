"""JSON-RPC messages: the fields that are read, the messages that are refused, and lists of tools in answers and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.passthrough.mcp_messages import (
    GATEWAY_ERROR,
    MAX_EVENT_BYTES,
    EventRelay,
    RpcError,
    allowed_tools,
    as_rpc_error,
    check_headers,
    check_message,
    read_message,
)

TOOLS = ("get_*", "add")
LISTED = {"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "add"}, {"name": "erase"}, "odd", {}], "ttl": 1.50}}


def encoded(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()


def call_of(tool: Any, **more: Any) -> dict[str, Any]:
    """Return a call of a tool."""
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, **more}}


def test_call_is_written_again_with_the_bytes_of_its_arguments() -> None:
    source = b'{ "jsonrpc":"2.0", "id" : "a", "method":"tools/call", "params": { "name":"add", "arguments": {"x": 1.50, "x":2} } }'
    message = read_message(source)
    assert (message.method, message.id, message.tool) == ("tools/call", "a", "add")
    assert b'{"x": 1.50, "x":2}' in message.body
    check_message(message, TOOLS, "s")


def test_answers_of_callers_and_notifications_have_no_tool() -> None:
    for source in ({"jsonrpc": "2.0", "id": 1, "result": {}}, {"jsonrpc": "2.0", "method": "notifications/initialized"}):
        message = read_message(encoded(source))
        check_message(message, TOOLS, "s")
        assert json.loads(message.body) == source


@pytest.mark.parametrize("tool", ["erase", "get", "", "add ", "ADD", "add\0"])
def test_tool_outside_the_list_is_refused(tool: str) -> None:
    with pytest.raises(RpcError) as refused:
        check_message(read_message(encoded(call_of(tool))), TOOLS, "s")
    assert refused.value.code == "tool_not_allowed"
    assert json.loads(refused.value.as_body())["id"] == 1


@pytest.mark.parametrize("name", ["Name", "NAME", "argument\u017f", "_META"])
def test_member_that_differs_only_in_case_is_refused(name: str) -> None:
    with pytest.raises(RpcError):
        check_message(read_message(encoded(call_of("add", **{name: "erase"}))), TOOLS, "s")


def test_new_members_of_parameters_pass() -> None:
    check_message(read_message(encoded(call_of("add", requestState="x", task={}))), TOOLS, "s")


def test_headers_must_repeat_the_message() -> None:
    message = read_message(encoded(call_of("add")))
    check_headers(message, [(b"mcp-name", b"add"), (b"mcp-method", b"tools/call"), (b"mcp-param-x", b"1")])
    check_headers(message, [(b"mcp-name", b"=?base64?YWRk?=")])
    for headers in ([(b"mcp-name", b"erase")], [(b"mcp-name", b"add"), (b"mcp-name", b"erase")], [(b"mcp-name", b"\xff")],
                    [(b"mcp-name", b"=?base64?!?=")], [(b"mcp-method", b"tools/list")]):  # fmt: skip
        with pytest.raises(RpcError):
            check_headers(message, headers)
    answer = read_message(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    check_headers(answer, [(b"mcp-protocol-version", b"2025-11-25")])
    for message, header in ((answer, (b"mcp-method", b"tools/call")), (read_message(encoded(call_of(""))), (b"mcp-name", b"erase"))):
        with pytest.raises(RpcError):
            check_headers(message, [header])
    other = read_message(b'{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"p"}}')
    check_headers(other, [(b"mcp-method", b"prompts/get"), (b"mcp-name", b"p")])


def test_errors_of_the_gateway_take_the_form_of_json_rpc() -> None:
    error = as_rpc_error(GatewayError("no", status=429, code="rate_limit_exceeded", headers=((b"retry-after", b"1"),)), 5)
    assert (error.status, error.headers) == (429, ((b"retry-after", b"1"),))
    expected = {"code": GATEWAY_ERROR, "message": "no", "data": {"code": "rate_limit_exceeded"}}
    assert json.loads(error.as_body()) == {"jsonrpc": "2.0", "id": 5, "error": expected}
    assert as_rpc_error(error, 6) is error


def test_only_allowed_tools_stay_in_a_list() -> None:
    kept = allowed_tools(encoded(LISTED), TOOLS)
    assert json.loads(kept)["result"] == {"tools": [{"name": "add"}], "ttl": 1.5}
    for other in (b"tools", b"[]", b'{"result":"tools"}', b'{"result":{"tools":1}}', encoded(call_of("tools")), b"\xfftools",
                  b'{"result":{"tools":[{"name":"add"}]} }'):  # fmt: skip
        assert allowed_tools(other, TOOLS) == other


EVENTS = [
    b": a comment\n\n", b"id: 1\nevent: message\ndata: " + encoded({"jsonrpc": "2.0", "method": "x"}) + b"\r\n\r\n",
    b"retry: 5\r\r", b"data: tools\ndata: more\n\n", b"data: tools\n\r\n", b"data: 1\r\n\n",
]  # fmt: skip


def test_lists_in_a_batch_of_responses_are_filtered() -> None:
    other = {"jsonrpc": "2.0", "id": 2, "result": {"text": "tools"}}
    found = json.loads(allowed_tools(encoded([other, LISTED]), TOOLS))
    assert found[0] == other
    assert found[1]["result"]["tools"] == [{"name": "add"}]
    for unchanged in (encoded([other]), b'[ {"a": "tools"} ]', b'["tools"', b"[1, null, [\"tools\"]]"):
        assert allowed_tools(unchanged, TOOLS) == unchanged


@given(st.lists(st.integers(1, 60), max_size=20))
def test_events_keep_their_bytes_in_pieces_of_any_size(sizes: list[int]) -> None:
    whole = b"".join(EVENTS)
    for tools in (None, TOOLS):
        relay, at, out = EventRelay(tools), 0, []
        for size in (*sizes, len(whole)):
            piece = relay.feed(whole[at : at + size])
            assert not piece or piece.endswith((b"\n\n", b"\n\r\n", b"\n\r", b"\r\r"))
            out.append(piece)
            at += size
        assert b"".join(out) == whole


def test_list_in_an_event_is_filtered_even_in_several_lines_of_data() -> None:
    text = json.dumps(LISTED, indent=1).encode()
    event = b"id: 7\n" + b"".join(b"data: " + line + b"\n" for line in text.split(b"\n")) + b"\n"
    first, _, data = EventRelay(TOOLS).feed(event).partition(b"\ndata: ")
    assert first == b"id: 7"
    assert json.loads(data)["result"]["tools"] == [{"name": "add"}]


@pytest.mark.parametrize("end", ["\n\n", "\n\r\n", "\r\n\n", "\r\n\r\n", "\r\r"])
def test_list_is_filtered_however_the_event_before_it_ends(end: str) -> None:
    events = EventRelay(TOOLS).feed(b"data: {}" + end.encode() + b"data: " + encoded(LISTED) + b"\n\n")
    assert json.loads(events.rpartition(b"data: ")[2])["result"]["tools"] == [{"name": "add"}]


def test_endless_event_is_an_error() -> None:
    relay = EventRelay(TOOLS)
    assert relay.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(GatewayError):
        relay.feed(b"x")
