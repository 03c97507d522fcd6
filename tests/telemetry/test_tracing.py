"""Traces of running gateways, as an OTLP collector receives them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.config.load import parse
from gateway.config.telemetry import TracesConfig
from gateway.telemetry.tracing import Tracer, tracer_of
from tests.faults.chat_script import answer_as_openai
from tests.faults.upstream_server import Exchange, FaultUpstream
from tests.flows.live import Live, eventually, live
from tests.support.plain_http import WITHOUT_AUTHORITIES
from tests.support.trace_collector import Collector

PROMPT, CANARY = "what hides below the quiet water", "sk-canary-traces-91b2"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def yaml(up: FaultUpstream, traces: str) -> str:
    """Return a configuration with these settings of `traces`."""
    return f"""
traces: {{ {traces} }}
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{CANARY}}" }}
models:
  m: up/mock
  again: [up/503, up/mock]
"""


async def ask(gateway: Live, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """Send a chat request."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], **fields}
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client:
        return await client.post(gateway.base_url + "/chat/completions", json=body, headers=headers)


def tracing_gateway(up: FaultUpstream, traces: str) -> Any:
    """Run a gateway with these settings of `traces`."""
    return live(yaml(up, traces), environ={"CANARY": CANARY})


async def test_call_and_attempts_are_spans_of_the_callers_trace(collector: Collector, up: FaultUpstream) -> None:
    async with tracing_gateway(up, f'endpoint: "{collector.url}", headers: {{ x-tenant: "${{CANARY}}" }}') as gateway:
        answer = await ask(gateway, {"traceparent": PARENT}, model="again", temperature=0.5, max_tokens=3, seed=7)
        assert answer.status_code == 200
        (record,) = await gateway.records(1)
        await eventually(lambda: len(collector.spans) >= 3, 20)
    spans = {span["name"] + ("!" if span["failed"] else ""): span for span in collector.spans}
    assert set(spans) == {"chat again", "chat 503!", "chat mock"}
    call, failed, good = spans["chat again"], spans["chat 503!"], spans["chat mock"]
    assert {span["trace"] for span in spans.values()} == {PARENT.split("-")[1]} == {record["trace_id"]}
    assert (call["parent"], failed["parent"], good["parent"]) == (PARENT.split("-")[2], call["id"], call["id"])
    assert (call["kind"], failed["kind"], good["kind"]) == ("SERVER", "CLIENT", "CLIENT")
    expected = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "up", "gen_ai.request.model": "again", "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 3, "gen_ai.request.seed": 7, "gen_ai.usage.output_tokens": 3, "gen_ai.usage.input_tokens": 6,
        "gen_ai.response.finish_reasons": ["length"], "http.response.status_code": 200, "lockgate.request_id": record["id"],
    }  # fmt: skip
    assert {name: call["attributes"].get(name) for name in expected} == expected
    assert failed["attributes"]["error.type"] == "503"
    assert good["attributes"]["server.port"] == up.port
    assert good["seconds"] <= call["seconds"]
    sent = [request.header("traceparent") for request in up.requests]
    assert sent == [f"00-{call['trace']}-{span['id']}-01" for span in (failed, good)]
    assert PROMPT not in str(collector.spans)
    assert CANARY not in str(collector.spans)
    assert collector.headers[0]["x-tenant"] == CANARY


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_capture_content_adds_prompts_and_answers_to_spans(
    collector: Collector, up: FaultUpstream, stream: bool
) -> None:
    async with tracing_gateway(up, f'endpoint: "{collector.url}", capture_content: true') as gateway:
        assert (await ask(gateway, stream=stream)).status_code == 200
        await eventually(lambda: len(collector.spans) >= 2, 20)
    (call,) = [span for span in collector.spans if span["kind"] == "SERVER"]
    assert (
        call["attributes"]["gen_ai.input.messages"]
        == f'[{{"role":"user","parts":[{{"type":"text","content":"{PROMPT}"}}]}}]'
    )
    assert '"content":"w0 w1 w2 w3 w4 "' in call["attributes"]["gen_ai.output.messages"]
    assert '"finish_reason":"stop"' in call["attributes"]["gen_ai.output.messages"]


async def test_unknown_model_is_a_failed_span_without_the_callers_name_for_it(
    collector: Collector, up: FaultUpstream
) -> None:
    async with tracing_gateway(up, f'endpoint: "{collector.url}"') as gateway:
        assert (await ask(gateway, {"traceparent": "nonsense"}, model="no-such-model")).status_code == 404
        await eventually(lambda: len(collector.spans) >= 1, 20)
    (call,) = collector.spans
    assert (call["name"], call["failed"], call["attributes"]["error.type"]) == ("chat other", True, "model_not_found")


async def test_traced_call_is_the_exemplar_of_its_bucket_in_openmetrics(
    collector: Collector, up: FaultUpstream
) -> None:
    async with tracing_gateway(up, f'endpoint: "{collector.url}"') as gateway:
        assert (
            await ask(
                gateway, {"traceparent": PARENT}, messages=[{"role": "user", "content": "#chunks=1# #delay=400ms#"}]
            )
        ).status_code == 200
        assert (await ask(gateway)).status_code == 200
        records = await gateway.records(2)
        async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=30) as client:
            found = await client.get(
                gateway.admin_url + "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
            )
            classic = (await client.get(gateway.admin_url + "/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(found.text)}
    for name in ("lockgate_request_duration_seconds", "gen_ai_server_request_duration_seconds"):
        examples = [sample.exemplar for sample in families[name].samples if sample.exemplar is not None]
        shown = {example.labels["trace_id"]: example.value for example in examples}
        assert set(shown) == {record["trace_id"] for record in records}
        assert 0.4 <= shown[PARENT.split("-")[1]] < 20
    assert "# {" not in classic


async def test_unsampled_calls_propagate_the_decision_and_export_nothing(
    collector: Collector, up: FaultUpstream
) -> None:
    async with tracing_gateway(up, f'endpoint: "{collector.url}", sample: 0') as gateway:
        assert (await ask(gateway)).status_code == 200
        assert (await ask(gateway, {"traceparent": PARENT[:-1] + "0"})).status_code == 200
        assert (await ask(gateway, {"traceparent": PARENT})).status_code == 200
        await eventually(lambda: len(collector.spans) >= 2, 20)
        records = await gateway.records(3)
    assert {span["trace"] for span in collector.spans} == {PARENT.split("-")[1]}
    sampled = [int(str(request.header("traceparent"))[-2:], 16) & 1 for request in up.requests]
    assert sampled == [0, 0, 1]
    assert ["trace_id" in record for record in records] == [False, False, True]


async def test_unavailable_collector_is_reported_once_and_affects_no_call(
    up: FaultUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    async with tracing_gateway(up, 'endpoint: "http://127.0.0.1:1"') as gateway:
        assert (await ask(gateway)).status_code == 200
        assert gateway.gateway.log.records is not None
        await gateway.gateway.log.records.flush()  # opens the file of call records
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            assert (await ask(gateway)).status_code == 200
        await eventually(lambda: any("collector" in line for line in gateway.reports), 20)
        assert (await ask(gateway)).status_code == 200
        await asyncio.sleep(0)
        assert len([line for line in gateway.reports if "collector" in line]) == 1
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 5
    assert "Traceback" not in capfd.readouterr().err


def test_trace_continues_that_of_the_caller_and_is_unsampled_without_one() -> None:
    tracer = Tracer(TracesConfig(endpoint="http://127.0.0.1:9", sample=0.0), lambda line: None)
    assert tracer.begin([(b"traceparent", PARENT.encode())]).id == PARENT.split("-")[1]
    unsampled = tracer.begin([])
    assert (unsampled.id, int(unsampled.header[-2:], 16) & 1) == ("", 0)
    tracer.stop()


def test_configuration_without_traces_has_no_tracer() -> None:
    text = b'providers: {up: {type: vllm, base_url: "http://h/v1"}}\nmodels: {m: up/a}\n'
    assert tracer_of(parse(text, "g.yaml", environ={}), print) is None


async def test_wait_for_a_slot_is_a_span_of_its_own(collector: Collector, up: FaultUpstream) -> None:
    release = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await release.wait()
        await answer_as_openai(exchange)

    up.once(hold)
    config = yaml(up, f'endpoint: "{collector.url}"').replace("type:", "max_concurrent: 1, type:")
    async with live(config, environ={"CANARY": CANARY}) as gateway:
        first = asyncio.create_task(ask(gateway))
        await up.wait_for(lambda up: len(up.requests) == 1)
        second = asyncio.create_task(ask(gateway))
        await eventually(lambda: any(health.waiting for health in gateway.gateway.health.all()))
        release.set()
        await asyncio.gather(first, second)
        await eventually(lambda: len(collector.spans) >= 5, 20)
    (queue,) = [span for span in collector.spans if span["name"] == "queue"]
    assert queue["attributes"]["lockgate.target"] == "up/mock"
    assert sum(span["name"] == "chat mock" for span in collector.spans) == 2
    call = next(span for span in collector.spans if span["id"] == queue["parent"])
    assert call["name"] == "chat m"
    assert call["seconds"] >= queue["seconds"] > 0
