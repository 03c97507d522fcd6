"""Event streams of MCP servers: resuming them, and the deadlines of answers and streams."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from tests.faults.behaviours import play
from tests.faults.upstream_server import FIN, HANG, Exchange, FaultUpstream, Script
from tests.flows.live import Live, live
from tests.flows.operator import bearer
from tests.flows.test_mcp_flow import AGENT, ENVIRON, LIST, LISTED, OTHER, STREAM_HEAD, as_events, config, post

NOTE = {"jsonrpc": "2.0", "method": "notifications/message"}
SESSION_HEAD = STREAM_HEAD.replace(b"connection", b"mcp-session-id: s1\r\nconnection")
LISTEN = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {}}


async def get(client: httpx.AsyncClient, gateway: Live, key: str, **headers: str) -> httpx.Response:
    """Open a stream of the server, and read it to its end."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(gateway.url + "/mcp/tools", headers={**bearer(key), "accept": "text/event-stream", **given})


def ids_of(answer: httpx.Response) -> list[str]:
    """Return the ids of the events in a stream."""
    return [line.removeprefix("id: ") for line in answer.text.split("\n") if line.startswith("id: ")]


@pytest.mark.parametrize("tools", ["", ", tools: ['search_*']"], ids=["all tools", "some tools"])
async def test_stream_is_resumed_with_the_id_of_the_server_and_only_by_its_key(
    up: FaultUpstream, client: httpx.AsyncClient, tools: str
) -> None:
    up.on("/mcp", play(STREAM_HEAD, as_events(NOTE, LISTED), FIN))
    async with live(config(up, tools), environ=ENVIRON) as gateway:
        first, second = ids_of(await post(client, gateway, LIST))
        assert (first.rpartition(".")[0], second.rpartition(".")[0]) == ("0", "1")
        assert (await get(client, gateway, AGENT, last_event_id=second)).status_code == 200
        for key, stolen in ((OTHER, second), (AGENT, "1"), (AGENT, "0" + second[1:]), (AGENT, second[:-1]), (AGENT, "")):
            refused = await get(client, gateway, key, last_event_id=stolen)
            assert (refused.status_code, refused.json()["error"]["data"]) == (400, {"code": "event_not_found"}), stolen
            posted = await post(client, gateway, LIST, key, last_event_id=stolen)
            assert posted.status_code == 400, stolen
    async with live(config(up, tools), environ=ENVIRON) as gateway:  # another gateway, or the same one after a restart
        assert (await get(client, gateway, AGENT, last_event_id=second)).status_code == 200
    assert [request.header("last-event-id") for request in up.requests] == [None, "1", "1"]


async def test_event_belongs_to_its_session(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", play(SESSION_HEAD, as_events(NOTE), FIN))
    async with live(config(up), environ=ENVIRON) as gateway:
        begun = await post(client, gateway, LIST)
        (event,), session = ids_of(begun), begun.headers["mcp-session-id"]
        resumed = await get(client, gateway, AGENT, last_event_id=event, mcp_session_id=session)
        assert resumed.status_code == 200
        assert ids_of(resumed) == [event]
        assert (await get(client, gateway, AGENT, last_event_id=event)).status_code == 400
        assert (await get(client, gateway, OTHER, last_event_id=event, mcp_session_id=session)).status_code == 404
    assert len(up.requests) == 2


async def test_headers_that_a_server_could_take_for_an_id_are_not_passed(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", play(STREAM_HEAD, FIN))
    async with live(config(up), environ=ENVIRON) as gateway:
        headers = {**bearer(AGENT), "mcp_session_id": "s1", "Last_Event-ID": "1", "x_kept": "yes"}
        await client.get(gateway.url + "/mcp/tools", headers=headers)
    (request,) = up.requests
    assert {name for name, _ in request.headers if "_" in name} == {"x_kept"}


async def test_sessions_of_a_server_without_a_credential_depend_on_secrets_of_the_configuration(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on("/mcp", play(SESSION_HEAD, FIN))
    open_server = config(up).replace(', api_key: "${TOOLS_TOKEN}"', "")
    sessions = []
    for rest in ("", "", 'providers: { up: { type: openai, api_key: "${TOOLS_TOKEN}" } }\nmodels: { m: up/gpt-4o }\n'):
        async with live(open_server + rest, environ=ENVIRON) as gateway:
            sessions.append((await post(client, gateway, LIST)).headers["mcp-session-id"])
    assert sessions[0] == sessions[1] != sessions[2]


JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"


@pytest.mark.parametrize("tools", ["", ", tools: ['search_*']"], ids=["all tools", "some tools"])
async def test_json_answer_without_an_end_is_cut_off_at_the_timeout(up: FaultUpstream, client: httpx.AsyncClient, tools: str) -> None:
    async with live(config(up, f", timeout: 300ms{tools}"), environ=ENVIRON) as gateway:
        up.on("/mcp", play(JSON_HEAD, HANG))
        answer = await post(client, gateway, LIST)
        assert (answer.status_code, answer.json()["error"]["data"]) == (504, {"code": "upstream_timeout"})
        assert "did not send its whole answer within 0.3 s" in answer.json()["error"]["message"]
        up.on("/mcp", play(JSON_HEAD, b"{", HANG))
        if tools:  # the gateway reads the whole list before it answers
            assert (await post(client, gateway, LIST)).status_code == 504
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await post(client, gateway, LIST)
        records = await gateway.records(2)
    assert {record["error"] for record in records} == {"upstream_timeout"}


def pings(*after: bytes) -> Script:
    """Send a comment every 20 ms: without end, or, if `after` is given, for a second before it."""

    async def run(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        ends = time.monotonic() + (1.0 if after else 60.0)
        while time.monotonic() < ends:
            await exchange.send(b": ping\r\n\r\n")
            await asyncio.sleep(0.02)
        await exchange.send(b"".join(after))
        exchange.fin()

    return run


async def test_silent_streams_end_with_the_deadline_that_fits(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", play(STREAM_HEAD, as_events(NOTE), HANG))
    for name, message in (("idle_timeout", LIST), ("listen_idle_timeout", LISTEN), ("listen_idle_timeout", None)):
        async with live(config(up, f", {name}: 200ms"), environ=ENVIRON) as gateway:
            with pytest.raises(httpx.RemoteProtocolError):
                await (post(client, gateway, message) if message else get(client, gateway, AGENT))
            (record,) = await gateway.records(1)
            assert record["stream_end"] == "stalled", name


async def test_whole_call_ends_with_its_deadline_although_comments_arrive(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", pings())
    async with live(config(up, ", total_timeout: 400ms"), environ=ENVIRON) as gateway:
        with pytest.raises(httpx.RemoteProtocolError):
            await post(client, gateway, LIST)
        (record,) = await gateway.records(1)
    assert record["stream_end"] == "timeout"


@pytest.mark.prove
async def test_comments_end_a_pause(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/mcp", pings(as_events(LISTED)))
    async with live(config(up, ", idle_timeout: 800ms, timeout: 800ms"), environ=ENVIRON) as gateway:
        answer = await post(client, gateway, LIST)
    assert json.loads(answer.text.rpartition("data: ")[2]) == LISTED
