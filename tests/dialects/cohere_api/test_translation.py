"""Requests, answers and streams of Cohere's chat API become chat completions and back, and nothing is lost."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.cohere_api.answer import FINISH_REASONS, translate_answer
from gateway.dialects.cohere_api.dialect import CohereChatTranslator
from gateway.dialects.cohere_api.documents import INTRODUCTION, fit_documents
from gateway.dialects.cohere_api.request import translate_request
from gateway.dialects.cohere_api.stream import CohereStream
from gateway.errors import BadRequest
from gateway.streams.relay import DONE
from providers.base import Body, Options, Refusal
from providers.rules.places import callers_param
from tests.dialects.cohere_api.grammar import read_stream
from tests.providers.adapting import target_for
from tests.providers.wires import answer, chunk
from tests.support.each import each
from tests.support.search import examples

HI = [{"role": "user", "content": "Hi"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27, "prompt_tokens_details": {"cached_tokens": 8}}
COUNTS = {"input_tokens": 20, "output_tokens": 7}
COHERE_USAGE = {"billed_units": COUNTS, "tokens": COUNTS, "cached_tokens": 8}


def translated(**body: Any) -> dict[str, Any]:
    """Return the chat completion that a request becomes."""
    result: dict[str, Any] = json.loads(translate_request(json.dumps({"model": "m", "messages": HI, **body}).encode())[0])
    return result


@each(
    ("given", "expected"),
    [
        ({"k": 5, "p": 0.9, "stop_sequences": ["a"]}, {"top_k": 5, "top_p": 0.9, "stop": ["a"]}),
        ({"tool_choice": "REQUIRED"}, {"tool_choice": "required"}),
        ({"tool_choice": "NONE"}, {"tool_choice": "none"}),
        ({"thinking": {"type": "disabled"}}, {"disable_reasoning": True}),
        ({"thinking": {"type": "enabled", "token_budget": 9}}, {"reasoning_budget": 9}),
        ({"thinking": {"type": "enabled"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        (
            {"response_format": {"type": "json_object", "json_schema": {"type": "object"}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "output", "schema": {"type": "object"}}}},
        ),
        ({"strict_tools": True, "tools": [{"type": "function", "function": {"name": "f"}}]},
         {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}),
        ({"stream": True}, {"stream": True}),
        ({"max_tokens": 3, "seed": 1, "safety_mode": "OFF", "x": [1]}, {"max_tokens": 3, "seed": 1, "safety_mode": "OFF", "x": [1]}),
    ],
)  # fmt: skip
def test_parameters_are_translated(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(**given) == {"model": "m", "messages": HI, **expected}


@each(
    ("given", "expected"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "user", "content": [{"type": "text", "text": "a"}]}),
        ({"role": "tool", "tool_call_id": "c1", "content": "r"}, {"role": "tool", "tool_call_id": "c1", "content": "r"}),
        (
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": [{"type": "text", "text": "a"}, {"type": "document", "document": {"id": "d", "data": {"x": 1}}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": 'a\n{"id":"d","x":1}'},
        ),
        (
            {"role": "assistant", "tool_calls": [CALL], "tool_plan": "I look."},
            {"role": "assistant", "tool_calls": [CALL], "reasoning_content": "I look.", "content": None},
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "hm"},
        ),
    ],
)
def test_messages_are_translated(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert translated(messages=[*HI, given])["messages"][1] == expected


def test_tool_result_that_is_not_changed_is_not_reported() -> None:
    document = {"type": "document", "document": {"data": {"x": 1}}}
    image = {"type": "image_url", "image_url": {"url": "https://a.b/c"}}
    for content, reported in (([document, document], 2), ([document, image], 0), ([image, document], 0)):
        messages = [*HI, {"role": "tool", "tool_call_id": "c1", "content": content}]
        body, made = translate_request(json.dumps({"model": "m", "messages": messages}).encode())
        assert len(made) == reported
        assert (json.loads(body)["messages"][1]["content"] == content) is (reported == 0)


@each(
    ("given", "param"),
    [
        ({"k": 1, "top_k": 1}, "top_k"),
        ({"n": 2}, "n"),
        ({"messages": [*HI, {"role": "assistant", "tool_plan": ["x"]}]}, "messages[1].tool_plan"),
        ({"thinking": "yes"}, "thinking"),
        ({"thinking": {"type": "enabled", "token_budget": 0}}, "thinking.token_budget"),
    ],
)
def test_invalid_parameters_are_refused_by_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        translated(**given)
    assert caught.value.param == param


def test_documents_become_a_system_message_where_there_is_no_field_for_them() -> None:
    system = {"role": "system", "content": "Be brief."}
    documents = ["a", {"id": "d", "data": {"x": 1}}]
    source = json.dumps({"messages": [system, *HI], "documents": documents, "citation_options": {"mode": "FAST"}})
    body = Body(source.encode())
    made = fit_documents(body, target_for("openai"), strict=False)
    assert callers_param(body, "messages[1].content") == "documents"
    lines = INTRODUCTION + '{"text":"a"}\n{"id":"d","x":1}'
    assert json.loads(body.encode()) == {"messages": [system, {"role": "system", "content": lines}, *HI]}
    assert [(each.param, each.action) for each in made] == [("citation_options", "drop"), ("documents", "reshape")]
    with pytest.raises(Refusal, match="no citations"):
        fit_documents(Body(source.encode()), target_for("openai"), strict=True)
    off = Body(source.replace("FAST", "OFF").encode())
    assert len(fit_documents(off, target_for("openai"), strict=True)) == 2


def test_documents_stay_at_cohere() -> None:
    source = b'{"messages":[],"documents":["a"],"citation_options":{"mode":"FAST"}}'
    body = Body(source)
    assert fit_documents(body, target_for("cohere"), strict=True) == []
    assert body.encode() == source


@each("documents", ["a", [1], {"a": 1}])
def test_documents_of_the_wrong_type_are_refused(documents: Any) -> None:
    with pytest.raises(BadRequest, match="list of strings or objects"):
        translated(documents=documents)


def test_names_count_the_messages_of_the_caller() -> None:
    translator, system = CohereChatTranslator(), {"role": "system", "content": "Be brief."}
    for messages, at in (([system, *HI], 1), (HI, 0), ([system, system], 2)):
        source = {"model": "m", "messages": messages}
        for documents in (["a"], None):
            body = Body(translator.request(json.dumps({**source, "documents": documents}).encode(), strict=False))
            translator.fit_to(body, target_for("openai"), strict=False)
            for index, message in enumerate(body.get("messages")):
                name = translator.param(callers_param(body, f"messages[{index}].content[12].text"))
                if message["content"].startswith(INTRODUCTION):
                    assert (index, name) == (at, "documents")
                else:
                    own = index - (documents is not None and index > at)
                    assert (name, messages[own]) == (f"messages[{own}].content[12].text", message)


@each(("finish", "reason"), list(FINISH_REASONS.items()))
def test_answer_has_cohere_s_form(finish: str, reason: str) -> None:
    message = {"content": "A", "reasoning_content": "hm", "tool_calls": [CALL]}
    whole = {**answer(message, finish), "usage": USAGE, "gateway": {"x": 1}}
    result = json.loads(translate_answer(json.dumps(whole).encode(), ()))
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}]
    assert result == {
        "id": whole["id"],
        "finish_reason": reason,
        "message": {"role": "assistant", "content": content, "tool_calls": [CALL]},
        "usage": COHERE_USAGE,
        "gateway": {"x": 1},
    }


def test_tokens_that_cohere_does_not_count_are_kept() -> None:
    details = {"prompt_tokens_details": {"cache_write_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 4}}
    whole = {**answer({"content": "A"}, "stop"), "usage": {**USAGE, **details}}
    usage = json.loads(translate_answer(json.dumps(whole).encode(), ()))["usage"]
    assert (usage["cache_write_tokens"], usage["reasoning_tokens"], usage["tokens"]) == (3, 4, COUNTS)
    events = CohereStream().feed(b"data: " + json.dumps({**chunk({}), "usage": whole["usage"]}).encode() + b"\n\ndata: [DONE]\n\n")
    assert read_stream(events)["usage"] == usage


def test_streamed_text_has_the_log_probabilities_of_all_its_tokens() -> None:
    whole = chunk({"content": "Hi."})
    whole["choices"][0]["logprobs"] = {"content": [{"token": "Hi", "logprob": -0.5}, {"token": ".", "logprob": -1.5}]}
    events = CohereStream().feed(b"data: " + json.dumps(whole).encode() + b"\n\n")
    assert b'"logprobs":{"text":"Hi.","token_ids":[],"logprobs":[-0.5,-1.5]}' in events


def test_answer_that_ended_at_a_stop_string_has_that_finish_reason() -> None:
    whole = answer({"content": "A"}, "stop")
    whole["choices"][0]["stop_sequence"] = "END"
    assert json.loads(translate_answer(json.dumps(whole).encode(), ("END",)))["finish_reason"] == "STOP_SEQUENCE"


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    """Return a delta with a piece of a tool call; `id` and `name` begin one."""
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"index": index, "function": function, **more}]}


def stream(*deltas: dict[str, Any], finish: str = "stop") -> list[bytes]:
    """Return the events of a chat stream with usage and [DONE]."""
    chunks = [*(chunk(delta) for delta in deltas), chunk({}, finish), {**chunk({}), "choices": [], "usage": USAGE}]
    return [*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks), DONE]


def read(events: list[bytes], random: Random | None = None) -> dict[str, Any]:
    """Return the answer of a translated stream whose events arrive in random groups, or all together."""
    translator, out, at = CohereStream(("END",)), b"", 0
    while at < len(events):
        size = random.randint(1, 4) if random is not None else len(events)
        out += translator.feed(b"".join(events[at : at + size]))
        at += size
    return read_stream(out)


INTERLEAVED = (
    {"role": "assistant", "content": ""},
    {"reasoning_content": "hm "},
    {"reasoning": "so"},
    {"content": "Let me "},
    {"content": "look."},
    call(0, "", id="a", name="f"),
    call(0, '{"x":'),
    call(1, "", id="b", name="g"),
    call(1, '{"y":2}'),
    call(0, "1}"),
    call(2, "{}", id="c", name="h"),
)


def test_stream_has_cohere_s_order_whatever_the_order_of_the_calls() -> None:
    expected = read(stream(*INTERLEAVED, finish="tool_calls"))
    assert expected["finish_reason"] == "TOOL_CALL"
    assert expected["usage"] == COHERE_USAGE
    assert expected["message"]["content"] == [{"type": "thinking", "thinking": "hm so"}, {"type": "text", "text": "Let me look."}]
    calls = [(each["id"], each["function"]["name"], each["function"]["arguments"]) for each in expected["message"]["tool_calls"]]
    assert calls == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}'), ("c", "h", "{}")]
    random = Random(1)
    for _ in range(examples(400)):
        assert read(stream(*INTERLEAVED, finish="tool_calls"), random) == expected


def test_error_ends_the_stream_with_its_message() -> None:
    events = [*stream({"content": "A"})[:1], b'data: {"error": {"message": "gone", "code": "x"}}\n\n']
    result = read(events)
    assert (result["finish_reason"], result["error"], result["message"]["content"]) == ("ERROR", "gone", [{"type": "text", "text": "A"}])


@pytest.mark.parametrize(("arguments", "ends"), [("", False), ('{"x"', False), ("1", False), ('{"x":1}', True), (" {} ", True)])
def test_error_ends_an_open_call_only_if_its_arguments_are_complete(arguments: str, ends: bool) -> None:
    pieces = stream(call(0, arguments, id="a", name="f"), finish="tool_calls")[:1]
    written = CohereStream().feed(b"".join([*pieces, b'data: {"error": {"message": "gone"}}\n\n']))
    names = [event.partition(b"\n")[0].removeprefix(b"event: ").decode() for event in written.split(b"\n\n")[:-2]]
    delta = ["tool-call-delta"] if arguments else []
    assert names == ["message-start", "tool-call-start", *delta, *(["tool-call-end"] if ends else []), "message-end"]
    assert written.endswith(DONE)


def test_error_begins_no_call_that_was_waiting() -> None:
    pieces = stream(call(0, '{"x"', id="a", name="f"), call(1, "{}", id="b", name="g"))[:2]
    written = CohereStream().feed(b"".join([*pieces, b'data: {"error": {"message": "gone"}}\n\n']))
    assert b"tool-call-end" not in written
    assert b'"b"' not in written
    assert written.endswith(DONE)


def test_comments_stay() -> None:
    assert CohereStream().feed(b": ping\n\n") == b": ping\n\n"


def test_cohere_s_own_decoder_reads_the_translated_stream() -> None:
    """The gateway can read from Cohere the same events that it sends to Cohere's clients."""
    translator = CohereStream()
    events = b"".join(translator.feed(event) for event in stream(*INTERLEAVED, finish="tool_calls"))
    target = target_for("cohere")
    decoder = target.kind.decoder(target, Options())
    assert decoder is not None
    chunks = []
    for event in events.split(b"\n\n")[:-2]:
        name, _, data = event.partition(b"\n")
        chunks += decoder.feed(name.removeprefix(b"event: ").decode(), data.removeprefix(b"data: "))
    deltas = [choice["delta"] for each in chunks[:-1] for choice in json.loads(each)["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me look."
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm so"
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls") or ()]
    assert [piece["id"] for piece in pieces if piece.get("id")] == ["a", "b", "c"]


def test_errors_have_cohere_s_form_and_the_callers_names() -> None:
    translator = CohereChatTranslator()
    translator.headers([(b"x-request-id", b"r1")])
    error = json.dumps({"error": {"message": "'top_k' must be an integer.", "param": "top_k", "code": "x", "type": "y"}})
    assert json.loads(translator.error(400, error.encode())) == {"id": "r1", "message": "'k' must be an integer."}


@each("logprobs", ["x", "", 1, ["x"], {"content": "x"}, {"content": {}}, {"content": ["x"]}, {"content": [None]}])
def test_log_probabilities_of_another_form_are_left_out(logprobs: Any) -> None:
    whole = answer({"content": "Hi"}, "stop")
    whole["choices"][0]["logprobs"] = logprobs
    assert "logprobs" not in json.loads(translate_answer(json.dumps(whole).encode(), ()))
    piece = chunk({"content": "Hi"})
    piece["choices"][0]["logprobs"] = logprobs
    events = CohereStream().feed(b"data: " + json.dumps(piece).encode() + b"\n\n")
    assert b'{"message":{"content":{"text":"Hi"}}}' in events
    assert b"logprobs" not in events


def test_content_after_a_call_begins_when_the_call_has_ended() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    second = {**first, "index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}}
    deltas: list[dict[str, Any]] = [
        {"content": "A"}, {"tool_calls": [first]}, {"content": "B"}, {"tool_calls": [rest]}, {"content": "C"},
        {"tool_calls": [second]}, {"content": "D"},
    ]  # fmt: skip
    events = b"".join(b"data: " + json.dumps(chunk(delta)).encode() + b"\n\n" for delta in deltas)
    end = b"data: " + json.dumps(chunk({}, "tool_calls")).encode() + b"\n\ndata: [DONE]\n\n"
    message = read_stream(CohereStream().feed(events + end))["message"]
    assert [part["text"] for part in message["content"]] == ["A", "BC", "D"]
    assert [(call["id"], call["function"]["arguments"]) for call in message["tool_calls"]] == [("c1", '{"a":1}'), ("c2", "")]
    error = b'data: {"error":{"message":"broken"}}\n\n'
    broken = read_stream(CohereStream().feed(events + error))
    assert [part["text"] for part in broken["message"]["content"]] == ["A", "BC"]
    assert [call["id"] for call in broken["message"]["tool_calls"]] == ["c1"]
