"""The realtime API of the openai packages, and the websockets package, through the gateway to a scripted server."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.faults.tls import Certificates
from tests.flows.conftest import CREDENTIAL, issue_certificate
from tests.flows.live import Live, live
from tests.flows.operator import digest
from tests.support.websocket_peer import CLOSE, PING, PONG, TEXT, Peer, SocketServer, accept, socket_server

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]

KEY = "lg-realtime-0123456789abcdef"
USAGE = {"total_tokens": 14, "input_tokens": 10, "output_tokens": 4, "input_token_details": {"cached_tokens": 5}}
YAML = """
providers: {{ up: {{ type: openai, base_url: "{url}", api_key: "${{UP_KEY}}"{provider} }} }}
models: {{ m: up/mock }}
keys: {{ app: {{ hash: "{digest}", limits: {{ concurrent: 1 }} }} }}
passthrough: {{ /v1/realtime: {{ provider: up, websocket: true }} }}
"""


async def realtime(peer: Peer) -> None:
    """Answer events as OpenAI's server does."""
    assert peer.header("authorization") == f"Bearer {CREDENTIAL}"
    assert KEY.encode() not in peer.head
    assert peer.head.startswith(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n")
    offered = (peer.header("sec-websocket-protocol") or "").split(",")
    await accept(peer, *([b"sec-websocket-protocol: realtime"] if "realtime" in offered else []))
    session = {"id": "sess_1", "object": "realtime.session", "type": "realtime", "model": "gpt-realtime", "output_modalities": ["audio"]}
    await send(peer, "session.created", session=session)
    while (frame := await peer.receive()).opcode != CLOSE:
        if frame.opcode == PING:
            await peer.send(PONG, frame.payload)
            continue
        event = json.loads(frame.payload)
        if event["type"] == "session.update":
            await send(peer, "session.updated", session={**session, **event["session"]})
        elif event["type"] == "response.create":
            await respond(peer)
        elif event["type"] == "close":
            await peer.send(CLOSE, event["code"].to_bytes(2, "big"))
            break
    if frame.opcode == CLOSE:
        await peer.send(CLOSE, frame.payload)


async def respond(peer: Peer) -> None:
    """Send the events of a response."""
    response: dict[str, Any] = {"id": "resp_1", "object": "realtime.response", "status": "in_progress", "output": []}
    ids = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
    await send(peer, "response.created", response=response)
    for piece in ("Hel", "lo"):
        await send(peer, "response.output_text.delta", delta=piece, **ids)
    await send(peer, "response.done", response={**response, "status": "completed", "usage": USAGE})


async def send(peer: Peer, kind: str, **fields: Any) -> None:
    """Send one event."""
    await peer.send(TEXT, json.dumps({"type": kind, "event_id": "event_1", **fields}).encode())


async def run(program: str, interpreter: str, calls: int, tls: Certificates | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a program, with TLS on both sides of the gateway if requested. Return its result and the log records of its calls."""
    context, rest, ca = None, "", ""
    if tls is not None:
        context, rest, ca = tls.server_context(), issue_certificate(tls.authority, tls.directory), f', ca: "{tls.ca}"'
    async with socket_server(realtime, context) as server, serving(server, rest, ca) as gateway:
        environment = {
            "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OPENAI_BASE_URL": gateway.base_url,
            "OPENAI_API_KEY": KEY, "MODEL": "gpt-realtime", "NO_PROXY": "127.0.0.1",
            **({"NODE_EXTRA_CA_CERTS": str(tls.ca)} if tls is not None else {}),
        }  # fmt: skip
        result = await asyncio.to_thread(run_program, program, MAIN_BIN / interpreter, environment)
        return result, await gateway.records(calls)


def serving(server: SocketServer, rest: str, provider: str) -> AbstractAsyncContextManager[Live]:
    """Serve a configuration with the realtime API."""
    yaml = YAML.format(url=server.base_url, digest=digest(KEY), provider=provider) + rest
    return live(yaml, environ={"UP_KEY": CREDENTIAL})


async def test_the_openai_and_websockets_packages_of_python() -> None:
    result, records = await run("openai_realtime.py", "python", 4)
    assert result == {
        "sync": {"texts": ["Hello", "Hello"], "usage": 14, "modalities": ["text"]},
        "async": "Hello",
        "plain": {"code": 4001, "ping": True, "refused": 401},
    }
    passed = [record for record in records if record["status"] == 101]
    assert [record.get("prompt_tokens") for record in passed] == [20, 10, None]
    assert [record["stream_end"] for record in passed] == ["ok"] * 3
    assert passed[0]["request_bytes"] > 500_000


async def test_the_openai_package_of_node_over_tls_with_its_key_in_a_subprotocol(tmp_path: Path) -> None:
    result, records = await run("openai_realtime_node.mjs", "node", 1, Certificates(tmp_path))
    assert result == {"text": "Hello", "usage": 14, "code": 1000, "protocol": "realtime"}
    assert [(record["prompt_tokens"], record["cached_tokens"]) for record in records] == [(10, 5)]
