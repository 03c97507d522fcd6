"""A crash of the engine fails only the calls in flight. The gateway reports the crash and answers the next call."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx

from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES

LOCAL = "providers:\n  local: {slots: 1}\nmodels:\n  local: local/smollm2-135m-instruct\n"
LONG = {"messages": [{"role": "user", "content": "Tell me a very long story."}], "max_tokens": 1500, "ignore_eos": True}


async def ready(gate: Live) -> int:
    """Return the id of the engine's process once the engine is ready."""
    engine = gate.gateway.generation.engines["local"]
    await eventually(lambda: engine.state == "ready", 60)
    pid = getattr(engine, "pid", None)
    assert isinstance(pid, int)
    return pid


async def test_a_crash_in_mid_stream_is_an_error_event_and_the_next_call_is_answered(bundled_model: Path) -> None:
    async with live(LOCAL) as gate, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gate.base_url, timeout=60) as client:
        pid = await ready(gate)
        seen, killed = b"", False
        async with client.stream("POST", "/chat/completions", json={"model": "local", "stream": True, **LONG}) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_raw():
                seen += piece
                if not killed and seen.count(b"data: ") >= 3:
                    os.kill(pid, signal.SIGKILL)
                    killed = True
        assert b'"code":"engine_crashed"' in seen
        assert b"[DONE]" not in seen
        engine = gate.gateway.generation.engines["local"]
        await eventually(lambda: engine.restarts == 1 and engine.state == "ready", 60)
        again = await client.post("/chat/completions", json={"model": "local", "messages": LONG["messages"], "max_tokens": 2})
        assert again.status_code == 200, again.text
        assert (await client.get(gate.admin_url + "/readyz")).status_code == 200


async def test_a_crash_before_the_first_byte_falls_back_to_the_next_target(bundled_model: Path) -> None:
    async with FaultUpstream() as up:
        yaml = f"""
providers:
  local: {{slots: 1}}
  up: {{type: openai-compatible, base_url: "{up.base_url}"}}
models:
  both: [local/smollm2-135m-instruct, up/spare]
"""
        async with live(yaml) as gate, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, base_url=gate.base_url, timeout=60) as client:
            pid = await ready(gate)
            os.kill(pid, signal.SIGSTOP)  # accepts the call and never answers, so that the kill happens in between
            request = client.build_request("POST", "/chat/completions", json={"model": "both", **LONG})
            sending = client.send(request)
            gate.gateway.sweeper.add(Killer(gate, pid))
            answer = await sending
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-gateway-target"] == "up/spare"
            assert answer.headers["x-gateway-attempts"] == "2"


class Killer:
    """Kills the engine as soon as it has a call."""

    def __init__(self, gate: Live, pid: int) -> None:
        self._gate = gate
        self._pid = pid
        self._done = False

    def sweep(self, now: float) -> None:
        """Check on every tick of the gateway's timer."""
        if not self._done and self._gate.gateway.generation.engines["local"].gate.running and self._gate.gateway.resources.native.in_use:
            self._done = True
            os.kill(self._pid, signal.SIGKILL)
            self._gate.gateway.sweeper.discard(self)
