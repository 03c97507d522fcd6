"""Request bodies that are too large, too deep or invalid JSON: an OpenAI error without an upstream request."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.client import CHAT_PATH, HELLO, FaultClient, body_with, request_head
from tests.faults.conftest import Gate, Serve, refused_answers
from tests.faults.upstream_server import FaultUpstream, canned
from tests.support.search import every


async def assert_all_refused(gate: Gate, up: FaultUpstream, bodies: list[bytes], code: str) -> None:
    """Check that each of these bodies is a 400 with this code."""
    answers = await refused_answers(gate, up, bodies)
    wrong = [
        (body[:200], answer) for body, answer in zip(bodies, answers, strict=True) if (answer.status, answer.error["code"]) != (400, code)
    ]
    assert not wrong


async def test_c10_a_content_length_over_the_limit_is_413_before_the_body(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(10 << 30) + b'{"model":')
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await client.until_closed()
    await gate.record(status=413, error="request_too_large")
    assert gate.count("lockgate_requests", "4xx", "request_too_large") == 1
    assert up.ledger.accepted == 0


async def test_c10_an_endless_body_is_413_at_the_limit(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"max_body": "1MiB"})
    async with await FaultClient.connect(gate.port) as client:
        await client.send(request_head(None))
        sent = await _send_until_refused(client)
        answer = await client.answer()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")
        await client.until_closed()
    assert sent < 64 << 20
    await gate.record(status=413, error="request_too_large")
    assert gate.count("lockgate_requests", "4xx", "request_too_large") == 1
    assert up.ledger.accepted == 0


async def _send_until_refused(client: FaultClient) -> int:
    """Send chunks until the gateway closes the connection. Return the number of bytes sent."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for count in range(4096):
        try:
            await asyncio.wait_for(client.send(chunk), 5)
        except (OSError, TimeoutError):
            return count << 16
        await asyncio.sleep(0)
    return 4096 << 16


async def test_c10_a_body_at_the_limit_passes_and_one_byte_more_is_413(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"), top={"max_body": "64KiB"})
    room = 65536 - len(body_with('"user":""'))
    assert (await gate.ask(body_with('"user":"' + "x" * room + '"'))).status == 200
    assert (await gate.ask(body_with('"user":"' + "x" * (room + 1) + '"'))).status == 413


DEEP_VALUES = [
    (opening * depth + inner + closing * depth)
    for depth in (1024, 100_000, 1_000_000)
    for opening, inner, closing in (("[", "", "]"), ('{"a":', "1", "}"))
]


async def test_c12_too_deep_nesting_is_400(serve: Serve, up: FaultUpstream) -> None:
    bodies = (
        [text.encode() for text in DEEP_VALUES]
        + [body_with(f'"metadata":{text}') for text in DEEP_VALUES]
        + [body_with(f'"x":{text}') for text in DEEP_VALUES]
    )
    bodies += [('{"model":"m","messages":' + text + "}").encode() for text in DEEP_VALUES] + [b"[" * 1_000_000, b'{"a":' * 1_000_000]
    await assert_all_refused(await serve((up, "mock")), up, bodies, "invalid_json")


@pytest.mark.search
@pytest.mark.parametrize("field", ["metadata", "tools", "response_format", "logit_bias", "stop", "x", "messages"])
async def test_c12_no_nesting_depth_is_an_internal_error(serve: Serve, up: FaultUpstream, field: str) -> None:
    up.on(CHAT_PATH, canned(b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'))
    gate = await serve((up, "mock"))
    async with await FaultClient.connect(gate.port) as client:
        for depth in every((*range(1, 1024, 37), *range(850, 1024)), 4):
            for opening, inner, closing in (("[", "", "]"), ('{"a":', "1", "}")):
                text = f'"{field}":' + opening * depth + inner + closing * depth
                await client.post(b'{"model":"m",' + text.encode() + b"}" if field == "messages" else body_with(text))
                answer = await client.answer()
                assert answer.status == 400 or (answer.status == 200 and (depth == 1 or field == "x")), (depth, answer)


FIELDS_WITH_VALUE = [
    '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
    '"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":%s}}',
    '"messages":[{"role":"user","content":[{"type":"text","text":"x","y":%s}]}]',
    '"messages":[{"role":"assistant","content":"x","tool_calls":[{"id":"a","type":"function","function":%s}]}]',
]


@pytest.mark.search
@pytest.mark.parametrize("field", FIELDS_WITH_VALUE, ids=["tools", "response_format", "content", "tool_calls"])
@pytest.mark.parametrize("kind", ["openai-compatible", "openai", "vllm", "ollama", "llamacpp"])
async def test_c12_a_deep_value_that_is_inspected_is_never_an_internal_error(
    serve: Serve, up: FaultUpstream, kind: str, field: str
) -> None:
    up.on(CHAT_PATH, canned(b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'))
    gate = await serve((up, "mock"), first={"type": kind})
    messages = "" if "messages" in field else f'"messages":{HELLO},'
    async with await FaultClient.connect(gate.port) as client:
        for depth in every(range(880, 1010), 4):
            value = field % ('{"properties":' * depth + "{}" + "}" * depth)
            await client.post(f'{{"model":"m",{messages}{value}}}'.encode())
            answer = await client.answer()
            assert answer.status in (200, 400), (depth, answer)


INVALID_JSON = [
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


async def test_c13_invalid_json_is_400(serve: Serve, up: FaultUpstream) -> None:
    await assert_all_refused(await serve((up, "mock")), up, INVALID_JSON, "invalid_json")


async def test_c13_a_surrogate_pair_is_forwarded_unchanged(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    source = b'{"model":"m","messages":[{"role":"user","content":"\\ud83d\\ude00 \\uD55C"}]}'
    assert (await gate.ask(source)).status == 200
    assert b"\\ud83d\\ude00 \\uD55C" in up.requests[0].body


async def test_c14_a_duplicate_key_is_400(serve: Serve, up: FaultUpstream) -> None:
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
    answers = await refused_answers(gate, up, bodies)
    assert [answer.error["code"] for answer in answers] == ["duplicate_key"] * len(bodies)
    assert [answer.error["param"] for answer in answers[:4]] == ["model"] * 4


async def test_c14_equal_keys_of_different_objects_are_accepted(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    for body in (body_with('"metadata":{"model":"x"}'), body_with(' "x" : {"x": {"x": "\\"x\\":1, "}} ', '"y":"{\\"x\\":1"')):
        assert (await gate.ask(body)).status == 200


NUMBERS = [
    "max_tokens", "max_completion_tokens", "min_tokens", "n", "top_k", "top_logprobs", "seed", "temperature", "top_p", "min_p",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "timeout_microseconds",
]  # fmt: skip
INVALID_NUMBERS = ["NaN", "Infinity", "-Infinity", "-NaN", "1e999", "-1e999", str(2**64), "1" * 5000, "-" + "9" * 5000, "1e400"]


async def test_c15_invalid_numbers_are_400(serve: Serve, up: FaultUpstream) -> None:
    gate = await serve((up, "mock"))
    bodies = [body_with(f'"{field}":{number}') for field in NUMBERS for number in INVALID_NUMBERS]
    bodies += [body_with('"logit_bias":{"5":' + number + "}") for number in INVALID_NUMBERS]
    for body, answer in zip(bodies, await refused_answers(gate, up, bodies), strict=True):
        assert answer.status == 400, body
        assert answer.error["code"] in ("invalid_json", "invalid_value", "invalid_type"), (body, answer)
        if b"N" not in body and b"I" not in body:
            assert answer.error["param"] in (*NUMBERS, "logit_bias"), (body[:100], answer)
