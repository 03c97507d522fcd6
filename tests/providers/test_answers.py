"""The caller gets the answer that each conformance vector expects, from the running gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.providers.cases import Case, load
from tests.providers.gateway_process import Gateway, Way, chunks_of, running, way_of
from tests.providers.server import Reply, Upstream, data_events, json_reply, stream_reply
from tests.providers.wires import answer, chunk, good_reply, named_events
from tests.support.each import each

CASES = load("response_cases")
HI = [{"role": "user", "content": "Hi"}]
MODELS = {"goodfire": "meta-llama/Llama-3.3-70B-Instruct", "fireworks": "accounts/fireworks/models/example"}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def _way(case: Case) -> Way:
    return way_of(case["provider"], MODELS.get(case["provider"], "example"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ways = list(dict.fromkeys(_way(case) for case in CASES))
    upstream = Upstream(lambda _: Reply(500))
    with running(ways, upstream, tmp_path_factory.mktemp("gateway")) as result:
        yield result
    upstream.close()


def _streams(case: Case) -> bool:
    source = case["upstream"]
    return "chunks" in source or "lines" in source or "events" in source


def _reply(case: Case) -> Reply:
    """Return the upstream's reply. An incomplete reply of the vector is completed."""
    source = case["upstream"]
    if "status" in source:
        body = source["text"].encode() if "text" in source else json.dumps(source["json"]).encode()
        return Reply(source["status"], body, headers={str(k): str(v) for k, v in (source.get("headers") or {}).items()})
    if "lines" in source:
        events = [line.encode() for line in source["lines"]]
        return stream_reply([*events[:-1], *data_events([FINISH], done=False), events[-1]])
    if "events" in source:
        expected = {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
        return stream_reply([event for event in _anthropic_events() if _type(event) in expected.union(source["events"])])
    if "chunks" in source:
        return stream_reply(data_events(_completed(source["chunks"], case["provider"])))
    if case["provider"] == "anthropic":
        return json_reply({"id": "m", "type": "message", "model": "m", "content": [], "stop_reason": "end_turn", **source["json"]})
    return json_reply({**answer({"content": "A"}, "stop"), **source["json"]})


def _anthropic_events() -> list[bytes]:
    block = {"type": "text", "text": ""}
    return named_events(
        [
            {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "A"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]
    )


def _type(event: bytes) -> str:
    return event.split(b"\n")[0].removeprefix(b"event: ").decode()


def _completed(chunks: list[dict[str, Any]], provider: str) -> list[dict[str, Any]]:
    """Complete a stream: text before a chunk without choices, and a finish reason at the end."""
    finished = any(choice.get("finish_reason") not in (None, "null") for one in chunks for choice in one.get("choices") or ())
    if finished or provider == "goodfire":
        return chunks
    if not any(one.get("choices") for one in chunks):
        return [chunk({"role": "assistant", "content": "A"}), chunk({}, "stop"), *chunks]
    return [*chunks, FINISH]


def _text(case: Case, response: httpx.Response) -> str:
    if _streams(case):
        return "".join(choice["delta"].get("content") or "" for item in chunks_of(response) for choice in item["choices"])
    return str(response.json()["choices"][0]["message"]["content"])


def _may_retry(response: httpx.Response) -> bool:
    """Return whether the response permits a retry."""
    return "retry-after" in response.headers and response.headers.get("x-should-retry") != "false"


def _seen(case: Case, response: httpx.Response) -> dict[str, Any]:
    """Return the properties that the expectations of the vectors describe, as the caller sees them."""
    seen: dict[str, Any] = {"status": response.status_code, "retry": _may_retry(response)}
    if _streams(case):
        chunks = chunks_of(response)
        choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
        seen |= {
            "text": _text(case, response) if response.status_code == 200 and "error" not in chunks[-1] else None,
            "roles": [choice["delta"].get("role") for choice in choices if choice["delta"].get("content")],
            "last_chunk": chunks[-1],
            "finish_reasons": [choice.get("finish_reason") for choice in choices],
            "usage_in_stream": any(chunk.get("usage") is not None for chunk in chunks),
            "ends_with": response.text.rstrip("\n").split("\n")[-1],
        }
    elif response.status_code == 200:
        body = response.json()
        choice = (body["choices"] or [{}])[0]
        message = choice.get("message") or {}
        seen |= {
            "body": body,
            "usage": body.get("usage"),
            "text": message.get("content"),
            "finish_reason": choice.get("finish_reason"),
            "tool_arguments": message.get("tool_calls", [{"function": {"arguments": None}}])[0]["function"]["arguments"],
            "extra_fields": body,
        }
    else:
        seen["error"] = response.json()["error"]
    return seen


def _fits(key: str, expected: Any, actual: Any) -> bool:
    """Return whether a value meets an expectation. Objects are partial; lists and plain values must be equal.

    `extra_fields` has only names, and `finish_reasons` only the first values.
    """
    if key in ("extra_fields",):
        return all(name in actual for name in expected)
    if key == "finish_reasons":
        return list(expected) == actual[: len(expected)]
    if isinstance(expected, dict) and isinstance(actual, dict):
        return all(name in actual and _fits(name, value, actual[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(_fits("", one, other) for one, other in zip(expected, actual, strict=True))
    return bool(expected == actual)


ELSEWHERE = {"created", "chunks", "stream_error", "must_not_fail_on_empty_choices"}
"""Expectations that separate tests below cover."""


@each(
    "case",
    [case for case in CASES if not {"finish_reasons", "stream_error"} & {*case["upstream"], *case["expect"]}],
    ids=lambda case: case["name"],
)
def test_caller_gets_the_answer_that_the_vector_expects(gateway: Gateway, case: Case) -> None:
    reply = _reply(case)
    gateway.upstream.answer = lambda _: reply
    request = {"messages": HI, "stream": _streams(case), **(case.get("request") or {})}
    response = gateway.ask(_way(case), request, receipt=False)
    seen = _seen(case, response)
    for key, expected in case["expect"].items():
        if key not in ELSEWHERE:
            assert _fits(key, expected, seen[key]), f"{key}: {seen[key]!r}, expected {expected!r}"


def test_goodfire_answer_without_created_gets_one(gateway: Gateway) -> None:
    case = next(case for case in CASES if case["name"] == "goodfire-no-usage")
    reply = _reply(case)
    gateway.upstream.answer = lambda _: reply
    body = gateway.ask(_way(case), {"messages": HI}, receipt=False).json()
    assert isinstance(body["created"], int)
    assert "usage" not in body


def test_a_groq_error_inside_a_stream_ends_it_with_its_message(gateway: Gateway) -> None:
    case = next(case for case in CASES if case["name"] == "groq-x-groq-error")
    reply = stream_reply(data_events([chunk({"role": "assistant", "content": "A"}), *case["upstream"]["chunks"]]))
    gateway.upstream.answer = lambda _: reply
    response = gateway.ask(_way(case), {"messages": HI, "stream": True}, receipt=False)
    error = json.loads(response.text.removeprefix("data: "))["error"]
    assert response.status_code == 502, "nothing was sent yet, so the failure is an HTTP response"
    assert error["message"].endswith(case["expect"]["stream_error"]["message"])
    assert "[DONE]" not in response.text


def test_anthropic_pings_add_no_chunk(gateway: Gateway) -> None:
    way = way_of("anthropic", "example")
    reported = []
    for events in (_anthropic_events(), [event for event in _anthropic_events() if _type(event) != "ping"]):
        reply = stream_reply(events)
        gateway.upstream.answer = lambda _, reply=reply: reply  # type: ignore[misc]
        reported.append(len(chunks_of(gateway.ask(way, {"messages": HI, "stream": True}, receipt=False))))
    assert reported[0] == reported[1] > 0


@each(
    ("word", "meaning"),
    [
        pair
        for case in CASES
        if "finish_reasons" in case["upstream"]
        for pair in zip(case["upstream"]["finish_reasons"], case["expect"]["finish_reasons"], strict=True)
    ],
)
def test_cohere_finishes_in_openai_words(gateway: Gateway, word: str, meaning: str) -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "A"}]}
    gateway.upstream.answer = lambda _: json_reply({"id": "c", "finish_reason": word, "message": message})
    body = gateway.ask(way_of("cohere", "example"), {"messages": HI}, receipt=False).json()
    assert body["choices"][0]["finish_reason"] == meaning


def test_every_provider_in_the_vectors_has_a_successful_reply(gateway: Gateway) -> None:
    for way in dict.fromkeys(_way(case) for case in CASES):
        gateway.upstream.answer = lambda request, kind=way.kind: good_reply(kind, request)  # type: ignore[misc]
        assert gateway.ask(way, {"messages": HI}, receipt=False).json()["choices"][0]["message"]["content"] == "Hello there"
