"""Fields of the request body: an invalid value is a 400 that names the field, and reaches no upstream."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.faults.client import MESSAGES, FaultClient, chat, request_head
from tests.faults.conftest import Serve, refused_answers
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure

VALUES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "number": 1.5,
    "text": "x",
    "list": [],
    "texts": ["x"],
    "numbers": [1],
    "nested": [[]],
    "nulls": [None],
    "object": {},
    "full": {"a": 1},
    "objects": [{}],
}
"""One value of each type. There is no `null`: in every field except `model` and `messages`, it means that the field is absent."""

INTEGER, NUMBER, BOOLEAN, TEXT = {"integer"}, {"integer", "number"}, {"boolean"}, {"text"}
INTEGERS = ["max_tokens", "max_completion_tokens", "min_tokens", "n", "top_k", "prompt_truncate_len", "timeout_microseconds"]
FLOATS = ["temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty"]
BOOLEANS = ["stream", "parallel_tool_calls", "store", "ignore_eos"]
TEXTS = ["model", "user", "safety_identifier", "prompt_cache_key", "service_tier", "system_prompt"]
VALID_KINDS: dict[str, set[str]] = {
    "messages": set(),
    **dict.fromkeys(INTEGERS, INTEGER),
    **dict.fromkeys(FLOATS, NUMBER),
    **dict.fromkeys(BOOLEANS, BOOLEAN),
    **dict.fromkeys(TEXTS, TEXT),
    "logprobs": {"boolean", "integer"},
    "top_logprobs": {"integer"},
    "seed": {"integer", "numbers", "list"},
    "stop": {"text", "list", "texts"},
    "stream_options": {"object", "full"},
    "metadata": {"object"},
    "logit_bias": {"object", "full"},
    "response_format": set(),
    "tools": {"list"},
    "tool_choice": {"text"},
    "functions": {"list", "objects"},
    "function_call": {"text", "object", "full"},
    "modalities": {"list", "texts"},
    "prediction": {"text", "object", "full"},
}
"""The kinds of VALUES that are valid, by field."""


async def test_c16_a_wrong_type_is_400_and_names_the_field(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    cases = [(field, kind) for field, valid in VALID_KINDS.items() for kind in VALUES if kind not in valid]
    bodies = [json.dumps(chat(**{field: VALUES[kind]}) if field not in ("model", "messages") else {**chat(), field: VALUES[kind]}).encode()
              for field, kind in cases]  # fmt: skip
    answers = await refused_answers(gate, up, bodies)
    wrong = [
        (field, kind, answer.error)
        for (field, kind), answer in zip(cases, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(field)
    ]
    assert not wrong


async def test_c16_null_means_absent_except_in_model_and_messages(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for field in VALID_KINDS:
        answer = await gate.ask({**chat(), field: None})
        if field in ("model", "messages"):
            assert (answer.status, answer.error["param"]) == (400, field)
        else:
            assert answer.status == 200, (field, answer)


INVALID_MESSAGES: list[tuple[Any, str]] = [
    ([], "messages"),
    ([1], "messages[0]"),
    ([{}], "messages[0].role"),
    ([{"role": 5, "content": "x"}], "messages[0].role"),
    ([{"role": "robot", "content": "x"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": True}], "messages[0].content"),
    ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
    ([{"role": "user", "content": [5]}], "messages[0].content"),
    ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": 5}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "messages[0].content[0].text"),
    ([*MESSAGES, {"role": "assistant"}], "messages[1].content"),
    ([*MESSAGES, {"role": "assistant", "tool_calls": 5}], "messages[1].tool_calls"),
    ([*MESSAGES, {"role": "assistant", "tool_calls": [5]}], "messages[1].tool_calls"),
    ([*MESSAGES, {"role": "assistant", "tool_calls": [{}]}], "messages[1].tool_calls[0].id"),
    ([*MESSAGES, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
    ([*MESSAGES, {"role": "tool", "content": "x", "tool_call_id": 5}], "messages[1].tool_call_id"),
    ([*MESSAGES, {"role": "tool", "content": "x", "tool_call_id": "never"}], "messages[1]"),
    ([{"role": "user", "content": "x", "name": 5}], "messages[0].name"),
]


async def test_c16_an_invalid_message_is_400_and_names_its_field(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    answers = await refused_answers(
        gate, up, [json.dumps({"model": "m", "messages": messages}).encode() for messages, _ in INVALID_MESSAGES]
    )
    wrong = [
        (messages, param, answer.error)
        for (messages, param), answer in zip(INVALID_MESSAGES, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(param)
    ]
    assert not wrong


UNKNOWN_MODELS = [
    "no-such-model",
    "x" * 10_000,
    "a\nb",
    "../../etc/passwd",
    "..%2f",
    "\u202egnp.exe",
    "m\u0000",
    "M",
    "m ",
    "🦊" * 3000,
    "p0/mock",
    "*",
]


async def test_c17_an_unknown_model_is_404_and_never_a_metric_label(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    answers = await refused_answers(gate, up, [json.dumps(chat(name)).encode() for name in UNKNOWN_MODELS])
    for name, answer in zip(UNKNOWN_MODELS, answers, strict=True):
        assert answer.status in ((404,) if "\n" not in name and "\0" not in name else (400, 404)), (name[:50], answer)
        assert answer.error["param"] == "model"
        assert answer.status == 400 or answer.error["code"] == "model_not_found"
        assert len(answer.body) < 2000
        assert answer.error["message"].isprintable()
    labels = {labels[0] for labels in gate.gateway.metrics.counts["lockgate_requests"]}
    assert labels == {"other"}
    assert all(len(record["model"]) <= 256 for record in gate.lines())


EXCESSIVE_VALUES: list[tuple[str, Any]] = [
    ("n", 1_000_000),
    ("n", 0),
    ("n", -1),
    *[("max_tokens", value) for value in (-1, 0, 1.5, 10**12, 2**63)],
    *[("max_completion_tokens", value) for value in (-1, 0, 1.5, 10**12)],
    ("top_logprobs", 10**9),
    ("top_logprobs", -1),
    ("top_k", -(2**40)),
    ("seed", 2**63),
    ("stop", ["x"] * 100_000),
    ("tools", [{"type": "function", "function": {"name": "f"}}] * 100_000),
    ("functions", [{"name": "f"}] * 100_000),
    ("messages", MESSAGES * 100_000),
    ("seed", [1] * 100_000),
    ("modalities", ["text"] * 100_000),
]


async def test_c18_excessive_values_are_400(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    gate = await serve((up, "mock"))
    bodies = [json.dumps({**chat(), field: value}).encode() for field, value in EXCESSIVE_VALUES]
    before = time.process_time()
    answers = await refused_answers(gate, up, bodies)
    spent = time.process_time() - before
    for (field, _), answer in zip(EXCESSIVE_VALUES, answers, strict=True):
        assert (answer.status, answer.error["param"]) == (400, field), answer
    figure("CPU time per refused KB, of test and gateway", spent * 1e6 / (sum(map(len, bodies)) / 1024), "us")


FORBIDDEN = [
    "api_base", "base_url", "api_key", "api_version", "extra_headers", "extra_query", "headers", "timeout", "user_config",
    "chat_template", "proxy", "callback_url",
]  # fmt: skip


async def test_c19_fields_reserved_to_the_configuration_are_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    values: list[Any] = ["http://169.254.169.254/", 5, None, {"a": "b"}, [1]]
    cases = [(field, value) for field in FORBIDDEN for value in values]
    answers = await refused_answers(gate, up, [json.dumps(chat(**{field: value})).encode() for field, value in cases])
    for (field, value), answer in zip(cases, answers, strict=True):
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "unsupported_parameter", field), (field, value, answer)
        assert "169.254" not in answer.error["message"]


CONTROLS = ["a\r\nx-injected: 1", "a\nb", "a\rb", "a\0b", "\x1b[31m", "\x7f"]


async def test_c20_control_characters_in_short_fields_are_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    cases: list[tuple[str, Any]] = [
        (field, text) for field in ("user", "safety_identifier", "service_tier", "prompt_cache_key") for text in CONTROLS
    ]
    cases += [("metadata", {"a": text}) for text in CONTROLS] + [("metadata", {text: "a"}) for text in CONTROLS]
    answers = await refused_answers(gate, up, [json.dumps(chat(**{field: value})).encode() for field, value in cases])
    wrong = [
        (field, value, answer)
        for (field, value), answer in zip(cases, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(field)
    ]
    assert not wrong


@pytest.mark.parametrize("kind", ["openai", "openai-compatible", "vllm"])
@pytest.mark.parametrize("text", ["a\r\nx-injected: 1", "a\nb", "a\0b", "日本", "x" * 10_000])
async def test_c20_no_field_injects_an_upstream_header(serve: Serve, up: FaultUpstream, kind: str, text: str) -> None:
    gate = await serve((up, "mock"), first={"type": kind})
    fields = ("team", "user", "service_tier", "prompt_cache_key", "safety_identifier", "organization", "system_prompt", "x-injected")
    for field in fields:
        answer = await gate.ask(chat(**{field: text}))
        assert answer.status == 200 or answer.error["code"] in ("invalid_value", "unsupported_parameter"), (field, answer)
        assert answer.status in (200, 400), (field, answer)
    for request in up.requests:
        assert request.header("x-injected") is None
        assert b"\nx-injected: 1" not in request.head


async def test_c20_caller_headers_are_not_forwarded(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat())).status == 200
    headers = [("x-request-id", value) for value in ("a b", "\xe9", "x" * 200, "a\tb", "plain-id", "%0d%0ax: 1", '"')]
    headers += [
        ("x-injected", "1"),
        ("transfer-encoding-x", "chunked"),
        ("x-api-key", "k"),
        ("openai-organization", "o"),
    ]
    for header in headers:
        answer = await gate.ask(chat(), (header,))
        assert answer.status == 200, header
        echoed = answer.header("x-client-request-id")
        assert echoed == (header[1] if header[1] in ("plain-id", "%0d%0ax: 1", '"') and " " not in header[1] else None), header
        assert str(answer.header("x-request-id")).startswith("req_")
    names = {tuple(name for name, _ in request.headers) for request in up.requests}
    assert len(names) == 1
    assert {request.head.count(b"\r\n") for request in up.requests} == {up.requests[0].head.count(b"\r\n")}


@pytest.mark.parametrize("value", [b"a\x00b", b"a\rb: c", b"a\x01b"])
async def test_c20_control_characters_in_a_header_are_not_forwarded(serve: Serve, up: FaultUpstream, value: bytes) -> None:
    gate = await serve((up, "mock"))
    body = json.dumps(chat()).encode()
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(len(body))[:-2] + b"x-request-id: " + value + b"\r\n\r\n" + body)
        answer = await client.answer()
        assert answer.status in (200, 400)
        assert answer.header("x-client-request-id") is None
        if answer.status == 400:
            await client.until_closed()
    assert all(b"a\x00b" not in request.head and b"\x01" not in request.head for request in up.requests)
