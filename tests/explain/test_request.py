"""The plan of a request: the route in order, for each target the very request that serving would send, secrets masked, nobody called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import __main__ as command
from gateway.explain.table import table
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import live

SECRET = "sk-credential-that-must-not-show"
CONFIG = """
providers:
  cerebras: {{ api_key: "${{UP_KEY}}", base_url: "{base}/v1" }}
  goodfire: {{ api_key: "${{UP_KEY}}", base_url: "{base}/api/inference/v1" }}
  azure: {{ api_key: "${{UP_KEY}}", base_url: "{base}/openai/v1", headers: {{ x-team: "${{UP_KEY}}" }} }}
models:
  fast: cerebras/llama-3.3-70b
  smart: [cerebras/llama-3.3-70b, goodfire/x, azure/deployment]
"""
REQUEST: dict[str, Any] = {
    "model": "smart",
    "messages": [{"role": "user", "content": "Hi " * 60}],
    "max_tokens": 7,
    "top_k": 4,
    "temperature": 0.5,
}
ENVIRON = {"UP_KEY": SECRET}


async def explained(client: httpx.AsyncClient, url: str, **more: Any) -> Any:
    """What POST /v1/explain answers."""
    response = await client.post(url + "/v1/explain", json={**REQUEST, **more})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a request."""
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(base="http://127.0.0.1:1"))
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    monkeypatch.setenv("UP_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("more", [{}, {"n": 2, "seed": [1, 2]}, {"stream": True, "stop": "x"}], ids=["plain", "several", "stream"])
async def test_what_is_explained_is_what_is_sent(more: dict[str, Any]) -> None:
    async with (
        FaultUpstream() as up,
        live(CONFIG.format(base=up.origin), environ=ENVIRON) as gateway,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        planned = (await explained(client, gateway.url, model="fast", **more))["targets"][0]["request"]
        assert up.requests == []
        response = await client.post(gateway.base_url + "/chat/completions", json={**REQUEST, "model": "fast", **more})
        assert response.status_code == 200
        sent = sorted(up.requests, key=lambda request: json.dumps(request.json.get("seed")))
    assert [request.json for request in sent] == (planned["bodies"] if "bodies" in planned else [planned["body"]])
    assert planned["url"] == up.origin + sent[0].path
    for name, value in planned["headers"].items():
        assert sent[0].header(name) == (f"Bearer {SECRET}" if value == "***" else value)


async def test_the_route_is_in_order_and_no_secret_shows() -> None:
    async with (
        FaultUpstream() as up,
        live(CONFIG.format(base=up.origin), environ=ENVIRON) as gateway,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        plan = await explained(client, gateway.url)
        assert up.ledger.accepted == 0
    assert [one["target"] for one in plan["targets"]] == ["cerebras/llama-3.3-70b", "goodfire/x", "azure/deployment"]
    assert SECRET not in json.dumps(plan)
    masked = [{name for name, value in one["request"]["headers"].items() if value == "***"} for one in plan["targets"]]
    assert masked == [{"authorization"}, {"authorization"}, {"api-key", "x-team"}]
    assert {"param": "top_k", "action": "drop"}.items() <= plan["targets"][0]["adjustments"][0].items()


async def test_a_target_that_cannot_be_asked_says_why_and_the_others_stay() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    async with live(CONFIG.format(base="http://127.0.0.1:1"), environ=ENVIRON) as gateway, httpx.AsyncClient(trust_env=False) as client:
        plan = await explained(client, gateway.url, tools=tools)
    assert ["error" in one for one in plan["targets"]] == [False, True, False]
    assert plan["targets"][1]["error"]["param"] == "tools"


def test_the_table_shows_route_request_and_adjustments(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table"]) == 0
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == "smart, lenient"
    assert [line for line in lines if line[:2] in ("1.", "2.", "3.")] == [
        "1. cerebras/llama-3.3-70b (cerebras)",
        "2. goodfire/x (goodfire)",
        "3. azure/deployment (azure)",
    ]
    assert "POST http://127.0.0.1:1/v1/chat/completions" in lines
    assert "authorization  ***" in shown
    assert "max_completion_tokens  7" in shown
    assert 'rename to "max_completion_tokens"' in shown
    assert "top_k       drop" in shown
    assert SECRET not in shown
    assert "… (" in shown, "long values are cut"
    assert max(map(len, lines)) <= 120


def test_the_table_of_a_strict_plan_names_what_is_refused(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table", "--strict"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("smart, strict\n")
    assert shown.count("refused with 400 unsupported_parameter about 'top_k'") == 3
    assert "POST" not in shown


def test_the_table_of_an_error_is_that_error(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "request.json").write_text(json.dumps({**REQUEST, "model": "none"}))
    assert command.run(["explain", "request.json", "--config", "gateway.yaml", "--table"]) == 1
    assert capsys.readouterr().out.startswith("refused with 404 model_not_found about 'model': The model 'none' does not exist")


def test_several_calls_are_shown_one_by_one() -> None:
    request = {"method": "POST", "url": "http://x/v1", "headers": {}, "bodies": [{"seed": 1}, {"seed": 2}]}
    targets = [{"target": "p/m", "type": "vllm", "adjustments": [], "request": request}]
    shown = table({"model": "m-1", "route": "m-*", "strict": False, "targets": targets})
    assert shown.splitlines() == [
        "m-1, by 'm-*', lenient",
        "",
        "1. p/m (vllm)",
        "   POST http://x/v1",
        "   body 1/2   seed  1",
        "   body 2/2   seed  2",
        "   adjusted   nothing",
    ]
