"""The pipeline: every call gets one response and is accounted for."""

from __future__ import annotations

import json
from typing import Any

from gateway.config.load import parse
from gateway.dialects.table import CHAT
from gateway.pipeline import Pipeline
from gateway.runtime.gateway import Gateway
from gateway.runtime.shared import Shared
from gateway.telemetry.call_log import CallLog
from tests.support.scripted import Recorder

YAML = b'providers: {up: {type: vllm, base_url: "http://127.0.0.1:1/v1"}}\nmodels: {m: up/a}\n'


async def test_a_refused_call_gets_one_response_and_is_accounted_for() -> None:
    gateway = Gateway(parse(YAML, "g.yaml", environ={}), CallLog(2, human=True), lambda line: None)
    shared, pipeline = gateway.shared, gateway.generation.pipeline
    assert isinstance(shared, Shared)
    assert isinstance(pipeline, Pipeline)
    assert pipeline.metrics is shared.metrics
    recorder, body = Recorder(), b'{"model":"absent","messages":[]}'

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    await pipeline.serve(CHAT, scope, receive, recorder.send)
    assert (recorder.status, json.loads(recorder.body)["error"]["code"]) == (404, "model_not_found")
    assert (pipeline.calls, shared.metrics.in_flight) == (0, 0)
    assert sum(shared.metrics.counts["lockgate_requests"].values()) == 1
