"""Prices end to end: steps, tiers, reported costs and unknown prices agree in receipt, ledger, budget, metrics and log."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.faults.behaviours import sse
from tests.faults.upstream_server import Exchange, FaultUpstream, canned
from tests.flows.live import live

TOKEN = "lg-prices-0123456789abcdef"
HASH = "sha256:" + hashlib.sha256(TOKEN.encode()).hexdigest()
CASES: list[tuple[str, dict[str, Any], str | None, int | None]] = [
    ("openai/gpt-5.4", {"prompt_tokens": 300_000, "completion_tokens": 5}, None, 1_500_112_500),
    ("openai/gpt-5.4", {"prompt_tokens": 1000, "completion_tokens": 1000}, "priority", 35_000_000),
    ("openai/gpt-5.4", {"prompt_tokens": "1000", "completion_tokens": "1000"}, "flex", 8_750_000),
    ("openrouter/any", {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.00014}, None, 140_000),
    ("xai/grok-4.3", {"prompt_tokens": 10, "completion_tokens": 2, "cost_in_usd_ticks": 37_756_000}, None, 3_775_600),
    ("told/any", {"prompt_tokens": 10, "completion_tokens": 2, "cost": {"total_cost": 0.0061}}, None, 6_100_000),
    ("openai/unheard-of", {"prompt_tokens": 10, "completion_tokens": 2, "cost": 5}, None, None),
]


def yaml(up: FaultUpstream) -> str:
    """Return a configuration with the targets of all cases."""
    names = {"openai": "openai", "openrouter": "openrouter", "xai": "xai", "told": "openai-compatible"}
    more = {"told": ", reports_cost: true"}
    providers = "\n".join(
        f'  {name}: {{ type: {kind}, base_url: "{up.base_url}", api_key: "${{UP_KEY}}"{more.get(name, "")} }}'
        for name, kind in names.items()
    )
    models = "\n".join(f"  m{at}: {target}" for at, (target, *_) in enumerate(CASES))
    return f"journal: off\nproviders:\n{providers}\nmodels:\n{models}\nkeys:\n  app: {{ hash: '{HASH}' }}\n"


async def reply(exchange: Exchange) -> None:
    """Answer with the usage and tier of the case that the request names."""
    sent = exchange.request.json
    _, usage, tier, _ = CASES[int(sent["messages"][0]["content"])]
    frame = {"id": "x", "created": 1, "model": "m"} | ({"service_tier": tier} if tier else {})
    if sent.get("stream"):
        chunk = {**frame, "object": "chat.completion.chunk"}
        text = {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}]}
        last = {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await sse(text, last, {**chunk, "choices": [], "usage": usage}, b"[DONE]")(exchange)
        return
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    await canned(json.dumps({**frame, "object": "chat.completion", "choices": [choice], "usage": usage}).encode())(exchange)


def receipt_in(answer: httpx.Response) -> dict[str, Any]:
    """Return the receipt of a JSON answer or of a stream."""
    if answer.headers["content-type"].startswith("application/json"):
        return dict(answer.json()["gateway"])
    (event,) = (line for line in answer.text.splitlines() if '"gateway"' in line)
    return dict(json.loads(event.removeprefix("data: "))["gateway"])


async def test_costs_agree_everywhere_and_unknown_ones_are_not_zero(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/chat/completions", reply)
    headers = {"authorization": f"Bearer {TOKEN}", "x-gateway-receipt": "body"}
    known = 0
    async with live(yaml(up), environ={"UP_KEY": "sk-upstream-credential"}) as gateway:
        for at, (_, _, _, cost) in enumerate(CASES):
            for stream in (False, True):
                body = {"model": f"m{at}", "messages": [{"role": "user", "content": str(at)}], "stream": stream}
                answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                shown = receipt_in(answer)["cost_usd"]
                assert shown == (None if cost is None else cost / 10**9), (CASES[at], stream)
                known += cost or 0
        lines = await gateway.records(2 * len(CASES))
        rows = (await client.get(gateway.admin_url + "/admin/usage")).json()["rows"]
        metrics = (await client.get(gateway.admin_url + "/metrics")).text
    (row,) = rows
    assert (row["cost_nanodollars"], row["unpriced"], row["requests"]) == (known, 2, 2 * len(CASES))
    assert sum(round(line["cost_usd"] * 10**9) for line in lines if line["cost_usd"] is not None) == known
    assert [line["target"] for line in lines if line["cost_usd"] is None] == ["openai/unheard-of"] * 2
    assert 'lockgate_unpriced_usages_total{model="m6",target="openai/unheard-of"} 2' in metrics
    counted = [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("lockgate_cost_usd_total{")]
    assert round(sum(counted) * 10**9) == known


async def test_a_catalog_file_gives_prices_and_limits_and_is_reloaded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    def overlay(usd: float) -> str:
        prices = {"input": usd, "output": usd}
        entry = {"context": 1234, "output": 55, "usd_per_million_tokens": prices}
        return json.dumps({"source": "test", "as_of": "2026-11-29", "vendors": {"openai": {"models": {"gpt-9": entry}}}})

    folder = Path(tempfile.mkdtemp())
    path = folder / "catalog.json"
    path.write_text(overlay(1))
    yaml = f"""
journal: off
catalog: {path}
providers: {{ openai: {{ base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: openai/gpt-9 }}
"""
    try:
        async with live(yaml, environ={"UP_KEY": "sk-upstream-credential"}) as gateway:
            for usd in (1, 2):
                path.write_text(overlay(usd))
                await gateway.reloader.reload()
                (model,) = (await client.get(gateway.base_url + "/models")).json()["data"]
                shown = model.get("gateway", model)
                assert (shown["context_window"], shown["max_output_tokens"], shown["pricing"]["prompt"]) == (1234, 55, usd)
                body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
                answer = await client.post(gateway.base_url + "/chat/completions", json=body, headers={"x-gateway-receipt": "body"})
                usage = answer.json()["usage"]
                assert answer.json()["gateway"]["cost_usd"] == usd * usage["total_tokens"] / 10**6
    finally:
        shutil.rmtree(folder)
