"""The catalogue's rows about what callers send: everything wrong is a 4xx in OpenAI's shape that says what, and reaches nobody."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.faults.client import MESSAGES, Answer, FaultClient, chat, request_head
from tests.faults.conftest import Gate, Serve
from tests.faults.upstream_server import FaultUpstream, canned
from tests.running import Figure

HELLO = json.dumps(MESSAGES)


def body_with(*fields: str) -> bytes:
    """A chat body with JSON texts for fields, as they are."""
    return ("{" + ",".join(('"model":"m"', f'"messages":{HELLO}', *fields)) + "}").encode()


async def refusals(gate: Gate, up: FaultUpstream, bodies: list[bytes]) -> list[Answer]:
    """The answers to bodies that must all be refused without asking the upstream, one record each, on one connection where it lasts."""
    answers: list[Answer] = []
    while len(answers) < len(bodies):
        async with await FaultClient.connect(gate.port) as client:
            for body in bodies[len(answers) :]:
                await client.post(body)
                answer = await client.answer()
                assert 400 <= answer.status < 500, (body[:300], answer)
                assert answer.error["type"] == "invalid_request_error", (body[:300], answer)
                answers.append(answer)
                if answer.header("connection") == "close":
                    break
    records = await gate.records(len(bodies))
    assert [record["status"] for record in records] == [answer.status for answer in answers]
    assert all(record["target"] is None for record in records)
    for status, code in {(answer.status, answer.error["code"]) for answer in answers}:
        expected = sum((answer.status, answer.error["code"]) == (status, code) for answer in answers)
        assert gate.count("lockgate_requests", str(status), code) == expected
    assert up.requests == []
    return answers


async def assert_all(gate: Gate, up: FaultUpstream, bodies: list[bytes], code: str) -> None:
    """Every one of these bodies is a 400 with this code."""
    answers = await refusals(gate, up, bodies)
    wrong = [
        (body[:200], answer) for body, answer in zip(bodies, answers, strict=True) if (answer.status, answer.error["code"]) != (400, code)
    ]
    assert not wrong


async def test_c10_a_body_announced_as_too_large_is_413_at_once(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(10 << 30) + b'{"model":')
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await client.until_closed()
    await gate.record(status=413, error="request_too_large")
    assert gate.count("lockgate_requests", "413", "request_too_large") == 1
    assert up.ledger.accepted == 0


async def test_c10_an_endless_body_is_413_at_the_cap(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"max_body": "1MiB"})
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(None))
        sent = await _send_until_refused(client)
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await client.until_closed()
    assert sent < 64 << 20
    await gate.record(status=413, error="request_too_large")
    assert gate.count("lockgate_requests", "413", "request_too_large") == 1
    assert up.ledger.accepted == 0


async def _send_until_refused(client: FaultClient) -> int:
    """Send chunk after chunk until the gateway has answered or closed."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for count in range(4096):
        try:
            await asyncio.wait_for(client.send(chunk), 5)
        except (OSError, TimeoutError):
            return count << 16
        await asyncio.sleep(0)
    return 4096 << 16


async def test_c10_a_body_at_the_cap_passes_and_one_byte_more_does_not(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"max_body": "64KiB"})
    room = 65536 - len(body_with('"user":""'))
    assert (await gate.ask(body_with('"user":"' + "x" * room + '"'))).status == 200
    assert (await gate.ask(body_with('"user":"' + "x" * (room + 1) + '"'))).status == 413


DEEP = [
    (opening * depth + inner + closing * depth)
    for depth in (1024, 100_000, 1_000_000)
    for opening, inner, closing in (("[", "", "]"), ('{"a":', "1", "}"))
]


async def test_c12_what_is_nested_too_deeply_is_400(serve: Serve, up: FaultUpstream) -> None:
    bodies = (
        [text.encode() for text in DEEP] + [body_with(f'"metadata":{text}') for text in DEEP] + [body_with(f'"x":{text}') for text in DEEP]
    )
    bodies += [('{"model":"m","messages":' + text + "}").encode() for text in DEEP] + [b"[" * 1_000_000, b'{"a":' * 1_000_000]
    await assert_all(await serve((up, "mock")), up, bodies, "invalid_json")


@pytest.mark.parametrize("field", ["metadata", "tools", "response_format", "logit_bias", "stop", "x", "messages"])
async def test_c12_no_depth_at_all_is_an_internal_error(serve: Serve, up: FaultUpstream, field: str) -> None:
    up.on("/v1/chat/completions", canned(b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'))
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        for depth in (*range(1, 1024, 37), *range(850, 1024)):
            for opening, inner, closing in (("[", "", "]"), ('{"a":', "1", "}")):
                text = f'"{field}":' + opening * depth + inner + closing * depth
                await client.post(b'{"model":"m",' + text.encode() + b"}" if field == "messages" else body_with(text))
                answer = await client.answer()
                assert answer.status == 400 or (answer.status == 200 and (depth == 1 or field == "x")), (depth, answer)


PLACES = [
    '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
    '"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":%s}}',
    '"messages":[{"role":"user","content":[{"type":"text","text":"x","y":%s}]}]',
    '"messages":[{"role":"assistant","content":"x","tool_calls":[{"id":"a","type":"function","function":%s}]}]',
]


@pytest.mark.parametrize("place", PLACES, ids=["tools", "response_format", "content", "tool_calls"])
@pytest.mark.parametrize("kind", ["openai-compatible", "openai", "vllm", "ollama", "llamacpp"])
async def test_c12_a_deep_value_that_is_taken_apart_is_never_an_internal_error(
    serve: Serve, up: FaultUpstream, kind: str, place: str
) -> None:
    up.on("/v1/chat/completions", canned(b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'))
    gate = await serve((up, "mock"), first={"type": kind})
    messages = "" if "messages" in place else f'"messages":{HELLO},'
    async with await FaultClient.connect(gate.port) as client:
        for depth in range(880, 1010):
            value = place % ('{"properties":' * depth + "{}" + "}" * depth)
            await client.post(f'{{"model":"m",{messages}{value}}}'.encode())
            answer = await client.answer()
            assert answer.status in (200, 400), (depth, answer)


BROKEN = [
    b"",
    b" ",
    b"{",
    b"nope",
    b"null",
    b"[]",
    b'"text"',
    b"1",
    b"\x00",
    b'{"model":"m","messages":[]',
    body_with() + b"x",
    body_with() + body_with(),
    body_with() + b"\x00",
    b"\xef\xbb\xbf" + body_with(),
    body_with('"user":"\x00"'),
    body_with('"x":"a\x00b"'),
    body_with('"x":"a\nb"'),
    body_with()[:-1] + b',"user":"\xff\xfe"}',
    body_with()[:-1] + b',"x":"\xed\xa0\x80"}',
    body_with()[:-1] + b',"x":"\xc0\xaf"}',
    body_with('"user":"\\ud800"'),
    body_with('"x":"\\udc00"'),
    body_with('"x":"\\ud83d"'),
    body_with('"x":{"y":["\\ud83d\\u0041"]}'),
    body_with('"\\ud800":1'),
    b'{"model":"\\ud800","messages":' + HELLO.encode() + b"}",
    b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"m","messages":[{"role":"user","content":"\\uDFFF a"}]}',
    body_with('"x":"\\x"'),
    body_with('"x":01'),
    body_with('"x":+1'),
    body_with('"x":.5'),
    body_with("'x':1"),
    body_with('"x":1,'),
    body_with('"x":tru'),
    body_with('"x":1 /* comment */'),
]


async def test_c13_what_is_no_json_is_400(serve: Serve, up: FaultUpstream) -> None:
    await assert_all(await serve((up, "mock")), up, BROKEN, "invalid_json")


async def test_c13_a_pair_of_surrogates_is_a_character_and_passes_as_it_was_written(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    source = b'{"model":"m","messages":[{"role":"user","content":"\\ud83d\\ude00 \\uD55C"}]}'
    assert (await gate.ask(source)).status == 200
    assert b"\\ud83d\\ude00 \\uD55C" in up.requests[0].body


async def test_c14_a_key_that_appears_twice_is_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    bodies = [
        body_with('"model":"other"'),
        body_with('"model":"m"'),
        body_with('"mod\\u0065l":"other"'),
        b'{ "model" : "other" , ' + body_with()[1:],
        body_with('"messages":[]'),
        body_with('"x":1', '"x":1'),
        body_with('"x":{"a":[1,2]}', '"y":2', '"x":{"a":[1,2]}'),
        body_with('"é":1', '"\\u00e9":1'),
        body_with('"":1', '"":2'),
        body_with('"x":"\\"","x":"\\\\"'),
    ]
    answers = await refusals(gate, up, bodies)
    assert [answer.error["code"] for answer in answers] == ["duplicate_key"] * len(bodies)
    assert [answer.error["param"] for answer in answers[:4]] == ["model"] * 4


async def test_c14_equal_keys_at_different_places_are_none(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for body in (body_with('"metadata":{"model":"x"}'), body_with(' "x" : {"x": {"x": "\\"x\\":1, "}} ', '"y":"{\\"x\\":1"')):
        assert (await gate.ask(body)).status == 200


NUMBERS = [
    "max_tokens", "max_completion_tokens", "min_tokens", "n", "top_k", "top_logprobs", "seed", "temperature", "top_p", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "timeout_microseconds",
]  # fmt: skip
ODD_NUMBERS = ["NaN", "Infinity", "-Infinity", "-NaN", "1e999", "-1e999", str(2**64), "1" * 5000, "-" + "9" * 5000, "1e400"]


async def test_c15_numbers_that_are_none_are_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    bodies = [body_with(f'"{field}":{number}') for field in NUMBERS for number in ODD_NUMBERS]
    bodies += [body_with('"logit_bias":{"5":' + number + "}") for number in ODD_NUMBERS]
    for body, answer in zip(bodies, await refusals(gate, up, bodies), strict=True):
        assert answer.status == 400, body
        assert answer.error["code"] in ("invalid_json", "invalid_value", "invalid_type"), (body, answer)
        if b"N" not in body and b"I" not in body:
            assert answer.error["param"] in (*NUMBERS, "logit_bias"), (body[:100], answer)


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
"""One value of every type. null is left out: it is the same as absent everywhere but in `model` and `messages`."""

INTEGER, NUMBER, BOOLEAN, TEXT = {"integer"}, {"integer", "number"}, {"boolean"}, {"text"}
INTEGERS = ["max_tokens", "max_completion_tokens", "min_tokens", "n", "top_k", "prompt_truncate_len", "timeout_microseconds"]
FLOATS = ["temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty"]
BOOLEANS = ["stream", "logprobs", "parallel_tool_calls", "store", "ignore_eos"]
TEXTS = ["model", "user", "safety_identifier", "prompt_cache_key", "service_tier", "system_prompt"]
TAKEN: dict[str, set[str]] = {
    "messages": set(),
    **dict.fromkeys(INTEGERS, INTEGER),
    **dict.fromkeys(FLOATS, NUMBER),
    **dict.fromkeys(BOOLEANS, BOOLEAN),
    **dict.fromkeys(TEXTS, TEXT),
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
    "prediction": {"object", "full"},
}
"""By field: which of VALUES have a right type for it."""


async def test_c16_every_field_with_every_wrong_type_is_400_and_named(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    cases = [(field, kind) for field, right in TAKEN.items() for kind in VALUES if kind not in right]
    bodies = [json.dumps(chat(**{field: VALUES[kind]}) if field not in ("model", "messages") else {**chat(), field: VALUES[kind]}).encode()
              for field, kind in cases]  # fmt: skip
    answers = await refusals(gate, up, bodies)
    wrong = [
        (field, kind, answer.error)
        for (field, kind), answer in zip(cases, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(field)
    ]
    assert not wrong


async def test_c16_null_is_the_same_as_absent_but_for_model_and_messages(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for field in TAKEN:
        answer = await gate.ask({**chat(), field: None})
        if field in ("model", "messages"):
            assert (answer.status, answer.error["param"]) == (400, field)
        else:
            assert answer.status == 200, (field, answer)


MESSAGES_BROKEN: list[tuple[Any, str]] = [
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


async def test_c16_every_broken_message_is_400_and_named(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    answers = await refusals(gate, up, [json.dumps({"model": "m", "messages": messages}).encode() for messages, _ in MESSAGES_BROKEN])
    wrong = [
        (messages, param, answer.error)
        for (messages, param), answer in zip(MESSAGES_BROKEN, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(param)
    ]
    assert not wrong


NAMES = [
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


async def test_c17_an_unknown_model_is_404_and_no_label(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    answers = await refusals(gate, up, [json.dumps(chat(name)).encode() for name in NAMES])
    for name, answer in zip(NAMES, answers, strict=True):
        assert answer.status in ((404,) if "\n" not in name and "\0" not in name else (400, 404)), (name[:50], answer)
        assert answer.error["param"] == "model"
        assert answer.status == 400 or answer.error["code"] == "model_not_found"
        assert len(answer.body) < 2000
        assert answer.error["message"].isprintable()
    labels = {labels[0] for labels in gate.gateway.metrics.counts["lockgate_requests"]}
    assert labels == {"other"}
    assert all(len(record["model"]) <= 256 for record in gate.lines())


TOO_MUCH: list[tuple[str, Any]] = [
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


async def test_c18_too_much_of_anything_is_400_and_cheap(serve: Serve, up: FaultUpstream, figure: Figure) -> None:
    gate = await serve((up, "mock"))
    bodies = [json.dumps({**chat(), field: value}).encode() for field, value in TOO_MUCH]
    before = time.process_time()
    answers = await refusals(gate, up, bodies)
    spent = time.process_time() - before
    for (field, _), answer in zip(TOO_MUCH, answers, strict=True):
        assert (answer.status, answer.error["param"]) == (400, field), answer
    figure("CPU for each KB refused, test and gateway together", spent * 1e6 / (sum(map(len, bodies)) / 1024), "us")


FORBIDDEN = [
    "api_base", "base_url", "api_key", "api_version", "extra_headers", "extra_query", "headers", "timeout", "user_config",
    "chat_template", "proxy", "callback_url",
]  # fmt: skip


async def test_c19_what_only_the_configuration_may_say_is_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    values: list[Any] = ["http://169.254.169.254/", 5, None, {"a": "b"}, [1]]
    cases = [(field, value) for field in FORBIDDEN for value in values]
    answers = await refusals(gate, up, [json.dumps(chat(**{field: value})).encode() for field, value in cases])
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
    answers = await refusals(gate, up, [json.dumps(chat(**{field: value})).encode() for field, value in cases])
    wrong = [
        (field, value, answer)
        for (field, value), answer in zip(cases, answers, strict=True)
        if answer.status != 400 or not str(answer.error["param"]).startswith(field)
    ]
    assert not wrong


@pytest.mark.parametrize("kind", ["openai", "openai-compatible", "vllm"])
@pytest.mark.parametrize("text", ["a\r\nx-injected: 1", "a\nb", "a\0b", "日本", "x" * 10_000])
async def test_c20_no_field_becomes_a_header_of_its_own_making(serve: Serve, up: FaultUpstream, kind: str, text: str) -> None:
    gate = await serve((up, "mock"), first={"type": kind})
    fields = ("team", "user", "service_tier", "prompt_cache_key", "safety_identifier", "organization", "system_prompt", "x-injected")
    for field in fields:
        answer = await gate.ask(chat(**{field: text}))
        assert answer.status == 200 or answer.error["code"] in ("invalid_value", "unsupported_parameter"), (field, answer)
        assert answer.status in (200, 400), (field, answer)
    for request in up.requests:
        assert request.header("x-injected") is None
        assert b"\nx-injected: 1" not in request.head


async def test_c20_a_callers_headers_never_add_to_the_upstreams(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    assert (await gate.ask(chat())).status == 200
    odd = [("x-request-id", value) for value in ("a b", "\xe9", "x" * 200, "a\tb", "plain-id", "%0d%0ax: 1", '"')]
    odd += [("x-injected", "1"), ("transfer-encoding-x", "chunked"), ("x-api-key", "k"), ("openai-organization", "o"), ("traceparent", "x")]
    for header in odd:
        answer = await gate.ask(chat(), (header,))
        assert answer.status == 200, header
        echoed = answer.header("x-client-request-id")
        assert echoed == (header[1] if header[1] in ("plain-id", "%0d%0ax: 1", '"') and " " not in header[1] else None), header
        assert str(answer.header("x-request-id")).startswith("req_")
    names = {tuple(name for name, _ in request.headers) for request in up.requests}
    assert len(names) == 1
    assert {request.head.count(b"\r\n") for request in up.requests} == {up.requests[0].head.count(b"\r\n")}


@pytest.mark.parametrize("value", [b"a\x00b", b"a\rb: c", b"a\x01b"])
async def test_c20_a_header_with_control_characters_is_refused_and_its_connection_closed(
    serve: Serve, up: FaultUpstream, value: bytes
) -> None:
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
