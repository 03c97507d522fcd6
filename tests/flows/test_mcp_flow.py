"""MCP servers behind the gateway: credentials, allowed tools, sessions, streams, limits, deadlines and log lines."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from gateway.passthrough.mcp import MAX_LIST_BYTES
from tests.faults.behaviours import canned, play
from tests.faults.upstream_server import FIN, HANG, Exchange, FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.flows.operator import bearer, digest

AGENT, OTHER = "lg-agent-0123456789abcdef", "lg-other-0123456789abcdef"
ENVIRON = {"TOOLS_TOKEN": "the-servers-own-token"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
TOOLS = [{"name": name, "inputSchema": {}} for name in ("search_all", "search_one", "erase")]
LISTED = {"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS, "nextCursor": "more"}}


def config(up: FaultUpstream, server: str = "", agent: str = "", rest: str = "") -> str:
    """Return a configuration with one server and two keys."""
    return f"""
mcp:
  tools: {{ url: "{up.origin}/mcp", api_key: "${{TOOLS_TOKEN}}"{server} }}
keys:
  agent: {{ hash: "{digest(AGENT)}"{agent} }}
  other: {{ hash: "{digest(OTHER)}" }}
{rest}"""


def call_of(tool: str, id: int = 7) -> dict[str, Any]:
    """Return a call of a tool."""
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": {"x": 1}}}


async def post(
    client: httpx.AsyncClient, gateway: Live, message: Any, key: str = AGENT, **headers: str
) -> httpx.Response:
    """Send one message."""
    given = {"accept": "application/json, text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    kind = {"content-type": "application/json"}
    return await client.post(gateway.url + "/mcp/tools", content=content, headers={**kind, **given, **bearer(key)})


async def answer_tools(exchange: Exchange) -> None:
    """Answer `tools/list` with a list, and everything else with the message itself."""
    message = json.loads(exchange.request.body) if exchange.request.body else {}
    result = LISTED if message.get("method") == "tools/list" else {"jsonrpc": "2.0", "id": message.get("id"), "result": message}
    await canned(json.dumps(result).encode(), headers={"mcp-session-id": "s.1", "mcp-protocol-version": "2025-11-25"})(exchange)


def as_events(*messages: Any) -> bytes:
    """Return messages as a stream of events with ids."""
    return b"".join(b"id: %d\nevent: message\ndata: %b\n\n" % (at, json.dumps(each).encode()) for at, each in enumerate(messages))


def without_marks(stream: bytes) -> bytes:
    """Return a stream without the marks that the gateway adds to the ids of events."""
    return re.sub(rb"(?m)^(id: .*)\.[0-9a-f]{32}$", rb"\1", stream)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


async def test_server_gets_the_credential_of_the_configuration_and_never_the_callers(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/mcp", answer_tools)
    async with live(config(up, ', headers: { x-tenant: "t" }'), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST, cookie="a=b", x_api_key="mine", mcp_protocol_version="2025-11-25", origin="http://evil")
        assert (answer.status_code, answer.json()) == (200, LISTED)
        assert answer.headers["mcp-protocol-version"] == "2025-11-25"
        (record,) = await gateway.records(1)
    (request,) = up.requests
    sent = dict(request.headers)
    assert (sent["authorization"], sent["x-tenant"], sent["mcp-protocol-version"]) == ("Bearer the-servers-own-token", "t", "2025-11-25")
    assert AGENT not in str(request.headers)
    assert not {"cookie", "x-api-key", "origin"} & set(sent)
    assert json.loads(request.body) == LIST
    shown = {name: record[name] for name in ("key", "model", "target", "status", "method", "path", "rpc_method")}
    assert shown == {
        "key": "agent", "model": "/mcp/tools", "target": "mcp/tools", "status": 200, "method": "POST", "path": "/mcp/tools",
        "rpc_method": "tools/list",
    }  # fmt: skip


async def test_callers_without_a_key_or_with_other_paths_are_rejected(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", answer_tools)
    yaml = config(up, agent=", passthrough: [/mcp/others]").replace("mcp:\n", f"mcp:\n  others: {up.origin}/mcp\n")
    async with live(yaml, environ=ENVIRON) as gateway:
        assert (await client.post(gateway.url + "/mcp/tools", json=LIST)).status_code == 401
        refused = await post(client, gateway, LIST)
        assert refused.status_code == 403
        assert refused.json()["error"]["data"] == {"code": "path_not_allowed"}
        assert (await post(client, gateway, LIST, OTHER)).status_code == 200
    assert len(up.requests) == 1


async def test_only_allowed_tools_are_listed_and_called(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", answer_tools)
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        listed = (await post(client, gateway, LIST)).json()
        assert listed == {**LISTED, "result": {"tools": TOOLS[:2], "nextCursor": "more"}}
        called = (await post(client, gateway, call_of("search_one"))).json()
        assert called["result"] == call_of("search_one")
        refused = await post(client, gateway, call_of("erase"))
        assert (refused.status_code, refused.json()["id"], refused.json()["error"]["code"]) == (200, 7, -32602)
        assert "'erase' is not allowed on 'tools'" in refused.json()["error"]["message"]
        records = await gateway.records(3)
    assert [record.get("tool") for record in records] == [None, "search_one", "erase"]
    assert records[2]["error"] == "tool_not_allowed"
    assert len(up.requests) == 2


AMBIGUOUS: tuple[bytes, ...] = (
    b'[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase"}}]',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"erase"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_one","NAME":"erase"}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["erase"]}',
    b'{"jsonrpc":"2.0","id":1,"method":["tools/call"],"params":{"name":"erase"}}',
    b'{"jsonrpc":"2.0","id":1,"method":""}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}',
    b"not json", b"", b"\xff", b"1",
)  # fmt: skip


async def test_messages_that_a_server_could_read_differently_are_rejected(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", answer_tools)
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        for message in AMBIGUOUS:
            answer = await post(client, gateway, message)
            assert (answer.status_code, answer.json()["jsonrpc"]) == (400, "2.0"), message
        for headers in ({"mcp_name": "erase"}, {"mcp_method": "tools/list"}, {"mcp_name": "=?base64?ZXJhc2U=?="}):
            answer = await post(client, gateway, call_of("search_one"), **headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020), headers
        repeated = b'{"method":"tools/list","jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"erase","name":"search_one"}}'
        assert (await post(client, gateway, repeated, mcp_name="search_one")).status_code == 200
    (request,) = up.requests
    assert request.body.count(b"name") == request.body.count(b"method") == 1
    assert json.loads(request.body)["params"] == {"name": "search_one"}


async def test_list_in_a_stream_is_filtered_and_other_events_keep_their_bytes(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"message": "tools  \u00e9"}}
    stream = as_events(note, LISTED, note)
    pieces = [stream[at : at + 7] for at in range(0, len(stream), 7)]
    up.on("/mcp", play(STREAM_HEAD, *pieces, FIN))
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        filtered = (await post(client, gateway, LIST)).content
        opened = await client.get(gateway.url + "/mcp/tools", headers={**bearer(AGENT), "accept": "text/event-stream"})
    async with live(config(up), environ=ENVIRON) as gateway:
        assert without_marks((await post(client, gateway, LIST)).content) == stream
    before, event, after = (part + b"\n\n" for part in without_marks(filtered).split(b"\n\n")[:-1])
    assert (before, after) == (stream[: len(before)], stream[-len(after) :])
    assert event.startswith(b"id: 1\nevent: message\ndata: {")
    assert json.loads(event.split(b"data: ")[1])["result"]["tools"] == TOOLS[:2]
    assert opened.content == filtered  # a list that is sent again on a stream of the server


async def test_stream_with_a_content_length_is_filtered(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    stream = as_events(LISTED)
    up.on("/mcp", canned(stream, headers={"content-type": "text/event-stream"}))
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
    assert len(answer.content) < len(stream)
    assert json.loads(answer.content.split(b"data: ")[1])["result"]["tools"] == TOOLS[:2]


async def test_session_belongs_to_the_key_that_opened_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", answer_tools)
    async with live(config(up), environ=ENVIRON) as gateway:
        id = (await post(client, gateway, LIST)).headers["mcp-session-id"]
        assert id.startswith("s.1.")
        assert (await post(client, gateway, LIST, mcp_session_id=id)).status_code == 200
        for key, stolen in ((OTHER, id), (AGENT, "s.1"), (AGENT, id[:-1]), (AGENT, ""), (AGENT, "x" + id)):
            refused = await post(client, gateway, LIST, key, mcp_session_id=stolen)
            assert (refused.status_code, refused.json()["error"]["data"]) == (404, {"code": "session_not_found"}), stolen
        ended = await client.delete(gateway.url + "/mcp/tools", headers={**bearer(AGENT), "mcp-session-id": id})
        assert ended.status_code == 200
    assert [request.header("mcp-session-id") for request in up.requests] == [None, "s.1", "s.1"]
    assert [request.method for request in up.requests] == ["POST", "POST", "DELETE"]


async def test_stream_that_a_caller_opens_is_relayed_at_once_and_closed_with_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    first = as_events({"jsonrpc": "2.0", "method": "notifications/message"})
    up.on("/mcp", play(STREAM_HEAD, first, HANG))
    async with live(config(up, ", idle_timeout: 300ms, tools: ['search_*']"), environ=ENVIRON) as gateway:
        headers = {**bearer(AGENT), "accept": "text/event-stream"}
        async with client.stream("GET", gateway.url + "/mcp/tools", headers=headers) as stream:
            pieces = stream.aiter_raw()
            assert without_marks(await anext(pieces)) == first
            with pytest.raises(TimeoutError):  # the stream may pause for longer than `idle_timeout`
                await asyncio.wait_for(anext(pieces), 1.0)
        await eventually(lambda: gateway.gateway.metrics.in_flight == 0)
        (record,) = await gateway.records(1)
        assert (record["status"], record["aborted"]) == (499, "mid")


async def test_silent_server_ends_with_a_deadline(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", play(HANG))
    async with live(config(up, ", timeout: 200ms"), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
        assert answer.status_code == 504
        assert (answer.json()["id"], answer.json()["error"]["code"]) == (1, -32000)


async def test_limits_of_the_key_apply_to_messages_that_reach_the_server(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", answer_tools)
    async with live(config(up, ", tools: ['search_*']", ", limits: { requests: 2/h }"), environ=ENVIRON) as gateway:
        assert [(await post(client, gateway, call_of(tool))).status_code for tool in ("search_one", "erase", "search_all")] == [200] * 3
        refused = await post(client, gateway, call_of("search_one"))
        assert (refused.status_code, refused.json()["error"]["data"]) == (429, {"code": "rate_limit_exceeded"})
        assert int(refused.headers["retry-after"]) > 0


async def test_refused_credential_of_the_configuration_is_a_gateway_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer resource_metadata=x\r\ncontent-length: 0\r\n\r\n"
    up.on("/mcp", play(head))
    async with live(config(up), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
    assert answer.status_code == 502
    assert "www-authenticate" not in answer.headers
    assert "refused the credential of the configuration" in answer.json()["error"]["message"]


async def test_compressed_response_of_a_server_with_allowed_tools_is_an_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", canned(b"\x1f\x8b", headers={"content-encoding": "gzip"}))
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
    assert (answer.status_code, answer.json()["error"]["data"]) == (502, {"code": "upstream_bad_response"})


async def test_list_that_is_too_large_to_filter_is_an_error(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", canned(encoded_list(MAX_LIST_BYTES)))
    async with live(config(up, ", tools: ['search_*']"), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
    assert answer.status_code == 502


def encoded_list(size: int) -> bytes:
    """Return a list of tools as JSON of more than this size."""
    return json.dumps({**LISTED, "x": "y" * size}).encode()


async def test_methods_and_bodies_are_bounded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(config(up, ", max_body: 1000"), environ=ENVIRON) as gateway:
        large = await post(client, gateway, call_of("x" * 1000))
        assert (large.status_code, large.json()["error"]["data"]) == (413, {"code": "request_too_large"})
        other = await client.put(gateway.url + "/mcp/tools", headers=bearer(AGENT), json=LIST)
        assert (other.status_code, other.headers["allow"]) == (405, "DELETE, GET, POST")
        unknown = await client.post(gateway.url + "/mcp/unknown", headers=bearer(AGENT), json=LIST)
        assert unknown.status_code == 404
        assert "mcp: { unknown: ADDRESS }" in unknown.json()["error"]["message"]
        assert "passthrough" not in unknown.text
    assert up.requests == []


async def test_websocket_on_the_path_of_a_server_is_rejected_without_advice_that_cannot_help(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    handshake = {
        "connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version": "13",
    }  # fmt: skip
    async with live(config(up), environ=ENVIRON) as gateway:
        for path in ("/mcp/tools", "/mcp/unknown", "/mcp"):
            answer = await client.get(gateway.url + path, headers={**bearer(AGENT), **handshake})
            assert answer.status_code == 426
            message = answer.json()["error"]["message"]
            assert "streamable HTTP: send messages with POST." in message, message
            assert "websocket: true" not in message
