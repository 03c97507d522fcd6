"""Clients in Node assemble the recorded streams of all provider types that are reached by HTTP, each client in one process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN
from tests.clients.test_client_packages import run_client
from tests.providers.gateway_process import Gateway, Way, running
from tests.providers.server import Reply, Request, Upstream
from tests.providers.stream_shapes import ENGINES_OWN, SHAPES
from tests.providers.test_stream_grammar import FORMS

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]

RECORDED = [shape for shape in SHAPES if shape.kind not in ENGINES_OWN]
WAYS = [Way(kind, "example") for kind in sorted({shape.kind for shape in RECORDED})]
ANY = {"type": "object", "properties": {}, "additionalProperties": True}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": ANY}} for name in ("f", "g", "get_weather")]


def recorded_stream(request: Request) -> Reply:
    """Return the stream whose number is in the request."""
    found = re.search(r"shape (\d+)", json.dumps(request.body))
    assert found is not None
    events = [b"\n".join([*one_line, b"", b""]) for one_line, _ in FORMS[id(RECORDED[int(found[1])])]]
    return Reply(200, b"".join(events), "text/event-stream")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Return a gateway with a model for each type. Its upstream sends the stream that the prompt names."""
    upstream = Upstream(recorded_stream)
    try:
        with running(WAYS, upstream, tmp_path_factory.mktemp("recorded")) as started:
            yield started
    finally:
        upstream.close()


def ask(gateway: Gateway, program: str, *, several: bool) -> list[dict[str, Any]]:
    """Return the answer that a client assembles from each stream."""
    calls = []
    for number, shape in enumerate(RECORDED):
        call: dict[str, Any] = {"model": gateway.name_of(Way(shape.kind, "example")), "prompt": f"shape {number}"}
        if shape.calls:
            call["tools"] = TOOLS
        if several and shape.choices > 1:
            call["n"] = shape.choices
        calls.append(call)
    answers: list[dict[str, Any]] = run_client(program, MAIN_BIN / "node", gateway.base_url, "none", CALLS=json.dumps(calls))["answers"]
    assert len(answers) == len(RECORDED)
    return answers


def test_the_stream_helper_of_the_openai_package_assembles_each_stream(gateway: Gateway) -> None:
    for shape, answer in zip(RECORDED, ask(gateway, "openai_node_streams.mjs", several=True), strict=True):
        expected = {
            "text": [shape.text] * shape.choices,
            "calls": [[list(call) for call in shape.calls]] * shape.choices,
            "finish": [shape.finish] * shape.choices,
        }
        where = f"{shape.kind}, {shape.name}: {answer}"
        assert {name: answer.get(name) for name in expected} == expected, where
        assert answer["roles"] == ["assistant"] * shape.choices, where
        assert shape.usage is None or answer["usage"] == list(shape.usage), where


def test_the_ai_sdk_assembles_each_stream(gateway: Gateway) -> None:
    for shape, answer in zip(RECORDED, ask(gateway, "ai_sdk_streams.mjs", several=False), strict=True):
        expected = {
            "text": shape.text,
            "reasoning": shape.reasoning,
            "calls": [list(call) for call in shape.calls],
            "finish": shape.finish.replace("_", "-"),
        }
        where = f"{shape.kind}, {shape.name}: {answer}"
        assert {name: answer.get(name) for name in expected} == expected, where
        assert "error" not in answer, where
        assert shape.usage is None or answer["usage"] == list(shape.usage), where
