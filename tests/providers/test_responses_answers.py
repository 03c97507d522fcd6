"""providers.responses_wire.answers and stream: answers and events become a chat completion, alike in both forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers.base import Failure, StreamFailure
from providers.failures import read_failure
from providers.responses_wire.answers import PARAGRAPH, read_response
from providers.responses_wire.reasoning import FORMAT, items_of
from providers.responses_wire.stream import ResponseStream
from tests.support.each import each

Json = dict[str, Any]
USAGE = {
    "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}, "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 14,
}  # fmt: skip
THOUGHT = {
    "type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA",
    "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Second."}],
}  # fmt: skip
CITED = {"type": "url_citation", "start_index": 0, "end_index": 5, "title": "T", "url": "https://x"}
LOGPROB = {"token": "Hello", "logprob": -0.5, "bytes": [72], "top_logprobs": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}', "status": "completed"}
RUN = {"type": "custom_tool_call", "id": "ct_1", "call_id": "call_2", "name": "run", "input": "x = 1"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}


def said(text: str, *annotations: Json, logprobs: list[Json] | None = None) -> Json:
    """Return a message of the answer."""
    part = {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": logprobs or []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


REFUSAL = {"type": "message", "id": "msg_2", "role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}


def response(*output: Json, status: str = "completed", **more: Any) -> Json:
    """Return a response."""
    head = {"id": "resp_1", "object": "response", "created_at": 7.5, "model": "gpt-5.6", "status": status, "error": None}
    return {**head, "output": list(output), "usage": USAGE, "service_tier": "default", **more}


def read(status: int, data: bytes) -> Failure:
    return read_failure(status, {}, data)


def completion(value: Json) -> Json:
    """Return the chat completion for a response. The openai package must accept it."""
    answer = read_response(json.dumps(value).encode(), "openai", read)
    ChatCompletion.model_validate_json(answer.body)
    result: Json = json.loads(answer.body)
    return result


def events_of(value: Json, *, pieces: bool) -> list[Json]:
    """Return the events of a response, with texts in pieces or only in the events that end them."""
    events: list[Json] = [{"type": "response.created", "response": {**value, "output": [], "status": "in_progress"}}]
    for index, item in enumerate(value["output"]):
        place = {"output_index": index, "item_id": item.get("id")}
        empty = {**item, "content": [], "summary": [], "arguments": "", "input": "", "encrypted_content": ""}
        events.append({"type": "response.output_item.added", **place, "item": empty})
        for number, part in enumerate(item.get("content") or ()):
            events.append({"type": "response.content_part.added", **place, "content_index": number, "part": part})
            name, field = ("output_text", "text") if part["type"] == "output_text" else ("refusal", "refusal")
            for piece in [part[field][:3], part[field][3:]] if pieces else ():
                first = {"logprobs": part["logprobs"]} if part.get("logprobs") and piece == part[field][:3] else {}
                events.append({"type": f"response.{name}.delta", **place, "delta": piece, **first})
            for each_one in part.get("annotations") or ():
                events.append({"type": "response.output_text.annotation.added", **place, "annotation": each_one})
            events.append({"type": f"response.{name}.done", **place, field: part[field]})
        for part in item.get("summary") or () if pieces else ():
            events.append({"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}})
            events += [
                {"type": "response.reasoning_summary_text.delta", **place, "delta": text} for text in (part["text"][:2], part["text"][2:])
            ]
        kind, field = {
            "function_call": ("function_call_arguments", "arguments"),
            "custom_tool_call": ("custom_tool_call_input", "input"),
        }.get(item["type"], ("", ""))
        for piece in [item[field][:2], item[field][2:]] if pieces and kind else ():
            events.append({"type": f"response.{kind}.delta", **place, "delta": piece})
        events.append({"type": "response.output_item.done", **place, "item": item})
    end = {"incomplete": "response.incomplete", "failed": "response.failed"}.get(value["status"], "response.completed")
    return [{**event, "sequence_number": number} for number, event in enumerate([*events, {"type": end, "response": value}])]


def chunks_of(events: list[Json]) -> list[Json]:
    """Return the chunks for some events. The openai package must accept each one without custom tools, which its streams lack."""
    stream = ResponseStream("openai", read, 1)
    sent = [chunk for event in events for chunk in stream.feed(event["type"], json.dumps(event).encode())]
    assert sent[-1] == b"[DONE]"
    for chunk in sent[:-1]:
        if b'"custom"' in chunk:
            continue
        ChatCompletionChunk.model_validate_json(chunk)
    return [json.loads(chunk) for chunk in sent[:-1]]


def assembled(chunks: list[Json]) -> Json:
    """Return the completion that a caller assembles."""
    message: Json = {"role": chunks[0]["choices"][0]["delta"]["role"], "content": None, "refusal": None}
    logprobs: list[Any] = []
    finish, usage = None, None
    for number, chunk in enumerate(chunks):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            assert ("role" in delta) is (number == 0)
            finish = choice["finish_reason"] or finish
            logprobs += (choice.get("logprobs") or {}).get("content") or []
            for name in ("content", "refusal", "reasoning_content"):
                if delta.get(name):
                    message[name] = (message.get(name) or "") + delta[name]
            for name in ("reasoning_details", "annotations"):
                if name in delta:
                    message[name] = [*message.get(name, []), *delta[name]]
            for call in delta.get("tool_calls") or ():
                _add_call(message.setdefault("tool_calls", []), call)
    return {"message": message, "finish": finish, "usage": usage, "logprobs": logprobs}


def _add_call(calls: list[Json], call: Json) -> None:
    if call["index"] == len(calls):
        calls.append({name: value for name, value in call.items() if name != "index"})
        return
    kind = calls[call["index"]]["type"]
    for field, piece in call[kind].items():
        calls[call["index"]][kind][field] += piece


ANSWERS: list[tuple[str, Json]] = [
    ("text", response(said("Hello there"))),
    ("cited", response(said("Hello there", CITED))),
    ("probabilities", response(said("Hello there", logprobs=[LOGPROB]))),
    ("reasoning and calls", response(THOUGHT, CALL, {**THOUGHT, "id": "rs_2"}, RUN)),
    ("calls", response(THOUGHT, CALL, {**CALL, "id": "fc_2", "call_id": "call_3", "name": "g"})),
    ("commentary", response(THOUGHT, said("I look."), CALL)),
    ("two messages", response(said("Hello there", CITED), SEARCH, said("And more", CITED))),
    ("refusal", response(REFUSAL)),
    ("cut", response(said("Hello"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
    ("filtered", response(said("Hello"), status="incomplete", incomplete_details={"reason": "content_filter"})),
    ("cut while reasoning", response(THOUGHT, status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
    ("nothing", response()),
]


@each(("name", "value"), ANSWERS)
@each("pieces", [True, False])
def test_stream_and_answer_say_the_same(name: str, value: Json, pieces: bool) -> None:
    answer, streamed = completion(value), assembled(chunks_of(events_of(value, pieces=pieces)))
    choice = answer["choices"][0]
    assert streamed["message"] == choice["message"]
    assert (streamed["finish"], streamed["usage"]) == (choice["finish_reason"], answer["usage"])
    if pieces:
        assert streamed["logprobs"] == ((choice["logprobs"] or {}).get("content") or [])


@each(("name", "finish"), [("text", "stop"), ("reasoning and calls", "tool_calls"), ("cut", "length"), ("filtered", "content_filter")])
def test_finish_reason_follows_from_status_and_calls(name: str, finish: str) -> None:
    assert completion(dict(ANSWERS)[name])["choices"][0]["finish_reason"] == finish


def test_answer_has_every_part_in_its_place() -> None:
    answer = completion(response(THOUGHT, said("Hello there", CITED), CALL, RUN))
    assert {name: answer[name] for name in ("id", "object", "created", "model", "service_tier")} == {
        "id": "resp_1", "object": "chat.completion", "created": 7, "model": "gpt-5.6", "service_tier": "default",
    }  # fmt: skip
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == f"First.{PARAGRAPH}Second."
    assert message["annotations"] == [{"type": "url_citation", "url_citation": {n: v for n, v in CITED.items() if n != "type"}}]
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "x = 1"}},
    ]
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 2}
    assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}


def test_usage_is_booked_with_its_details() -> None:
    usage = read_response(json.dumps(response(said("Hi"))).encode(), "openai", read).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (9, 5, 4, 3)
    assert usage.cache_write_tokens == 2


def test_places_of_a_second_message_count_from_the_first() -> None:
    message = completion(dict(ANSWERS)["two messages"])["choices"][0]["message"]
    second = message["annotations"][1]["url_citation"]
    assert message["content"][second["start_index"] : second["end_index"]] == "And m"


def test_encrypted_reasoning_comes_back_as_it_was_between_the_same_items() -> None:
    details = completion(dict(ANSWERS)["reasoning and calls"])["choices"][0]["message"]["reasoning_details"]
    assert [detail["format"] for detail in details] == [FORMAT, FORMAT]
    assert items_of(details, "openai") == [(0, THOUGHT), (1, {**THOUGHT, "id": "rs_2"})]
    assert items_of(details, "azure") == []


FAILURES: list[tuple[Json, str, str | None]] = [
    ({"code": "rate_limit_exceeded", "message": "Slow down."}, "rate_limit", "rate_limit_exceeded"),
    ({"code": "server_error", "message": "Sorry."}, "inband_error", "server_error"),
    ({"code": "insufficient_quota", "message": "No money."}, "quota", "insufficient_quota"),
    ({"code": "context_length_exceeded", "message": "Too long."}, "context_overflow", "context_length_exceeded"),
    ({"code": "invalid_prompt", "message": "No."}, "client_error", "invalid_prompt"),
]


@each(("error", "kind", "code"), FAILURES)
@each("form", ["answer", "response.failed", "error", "nested error"])
def test_errors_have_their_kind_in_every_form(error: Json, kind: str, code: str | None, form: str) -> None:
    failed = response(status="failed") | {"error": error}
    forms: dict[str, Callable[[], Any]] = {
        "answer": lambda: completion(failed),
        "response.failed": lambda: chunks_of([{"type": "response.failed", "response": failed}]),
        "error": lambda: chunks_of([{"type": "error", "param": None, **error}]),
        "nested error": lambda: chunks_of([{"type": "error", "error": error}]),
    }
    with pytest.raises(StreamFailure) as caught:
        forms[form]()
    assert (caught.value.failure.kind, caught.value.failure.code) == (kind, code)
    assert caught.value.failure.message == error["message"]


@each("body", [b"{}", b"[]", b"null", b'{"output":{}}', b'{"status":"queued","output":[]}', b"x"])
def test_other_bodies_are_no_answers(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_response(body, "openai", read)


def test_events_that_are_not_needed_are_skipped_and_no_state_is_kept() -> None:
    stream = ResponseStream("openai", read, 1)
    for number in range(2_000):
        for event in events_of(response(SEARCH, said("Hi")), pieces=True)[1:-1]:
            event["output_index"] = number
            stream.feed("", json.dumps(event).encode())
    assert stream.feed("", b'{"type":"response.web_search_call.searching","output_index":0}') == ()
    assert stream._open == {}
