"""Streams of OpenAI-like types keep the grammar that docs/streams.md promises, whatever the upstream sends."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers.base import Failure, Options, StreamFailure, Usage
from providers.usage import read_usage
from tests.providers.adapting import target_for
from tests.providers.wires import answer, chunk
from tests.support.each import each

KINDS = (
    "azure", "cerebras", "deepseek", "fireworks", "friendli", "gemini", "groq", "llamacpp", "mistral", "ollama", "openai",
    "openai-compatible", "openrouter", "siati", "together", "vllm", "xai",
)  # fmt: skip
REASONS = {None, "stop", "length", "tool_calls", "content_filter", "function_call"}


def relay(kind: str, events: list[Any], cuts: int = 0) -> tuple[list[dict[str, Any]], Usage | None]:
    """Return the chunks that the caller gets, and the usage that is booked. `cuts` is the size of a piece, or 0 for one piece."""
    target = target_for(kind)
    state = Relay(
        decoder=target.kind.decoder(target, Options(stream=True)),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(target, data),
    )
    wire = b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    size = cuts or len(wire)
    out = b"".join(state.feed(wire[at : at + size]) for at in range(0, len(wire), size)) + state.end()
    return [json.loads(event[6:]) for event in out.split(b"\n\n") if event], state.usage


def assemble(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Check the grammar and return the message of each choice, joined as clients join it: texts of a call by its index."""
    assert len({(c["id"], c["object"], c["created"], c["model"]) for c in chunks}) == 1
    assert chunks[0]["id"]
    assert chunks[0]["object"] == "chat.completion.chunk"
    messages: dict[int, dict[str, Any]] = {}
    for choice in [choice for c in chunks for choice in c["choices"]]:
        message = messages.setdefault(choice["index"], {"content": "", "calls": [], "finish": None, "roles": 0})
        delta, reason = choice["delta"], choice.get("finish_reason")
        assert type(delta) is dict
        assert reason in REASONS
        assert delta.get("content") is None or type(delta["content"]) is str
        if reason is not None:
            assert message["finish"] is None, "a choice ends once"
            message["finish"] = reason
        message["content"] += delta.get("content") or ""
        message["roles"] += "role" in delta
        assert message["roles"] <= 1, "a choice has one role"
        assert delta.get("role", "assistant") == "assistant"
        for call in delta.get("tool_calls") or ():
            calls = message["calls"]
            if call["index"] == len(calls):
                assert call["id"]
                assert call["type"] == "function"
                assert call["function"]["name"]
                calls.append([call["id"], call["function"]["name"], ""])
            else:
                assert not call.get("id")
                assert not call["function"].get("name")
            calls[call["index"]][2] += call["function"]["arguments"]
    _check_with_the_openai_package(chunks, messages)
    for message in messages.values():
        del message["roles"]
    return messages


def _check_with_the_openai_package(chunks: list[dict[str, Any]], messages: dict[int, dict[str, Any]]) -> None:
    """Check that the stream helper of the `openai` package assembles the same messages from the chunks."""
    state = ChatCompletionStreamState()
    for c in chunks:
        state.handle_chunk(ChatCompletionChunk.construct(**c))
    for choice in state.current_completion_snapshot.choices:
        calls = [[call.id, call.function.name, call.function.arguments] for call in choice.message.tool_calls or ()]
        message = messages[choice.index]
        assert (choice.message.content or "", calls) == (message["content"], message["calls"])
        assert choice.finish_reason == message["finish"]
        assert choice.message.role in ("assistant", None)


def call(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**more, "function": function}


def calling(*deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a stream whose chunks have these calls."""
    return [*(chunk({"tool_calls": delta}) for delta in deltas), chunk({}, "tool_calls")]


A, B = '{"a":1}', '{"b":2}'
TWO_CALLS = {
    "same index": calling([call("f", A, index=0, id="c1")], [call("g", B, index=0, id="c2")]),
    "no index": calling([call("f", A, id="c1")], [call("g", B, id="c2")]),
    "one chunk without index": calling([call("f", A, id="c1"), call("g", B, id="c2")]),
    "same index in pieces": calling(
        [call("f", "", index=0, id="c1")], [call(arguments='{"a":', index=0)], [call(arguments="1}", index=0)],
        [call("g", "", index=0, id="c2")], [call(arguments='{"b":', index=0)], [call(arguments="2}", index=0)],
    ),
    "no index in pieces": calling(
        [call("f", "", id="c1")], [call(arguments=A)], [call("g", "", id="c2")], [call(arguments='{"b":')], [call(arguments="2}")]
    ),
    "interleaved": calling(
        [call("f", "", index=0, id="c1")], [call("g", "", index=1, id="c2")],
        [call(arguments='{"a":', index=0)], [call(arguments=B, index=1)], [call(arguments="1}", index=0)],
    ),
    "objects": calling([call("f", {"a": 1}, index=0, id="c1")], [call("g", {"b": 2}, index=0, id="c2")]),
    "id and name repeated": calling(
        [call("f", '{"a":', index=0, id="c1")], [call("f", "1}", index=0, id="c1")], [call("g", B, index=1, id="c2")]
    ),
    "ids missing": calling([call("f", A, index=0)], [call("g", B, index=0)]),
    "ids empty": calling([call("f", A, id="")], [call("g", B, id="")]),
    "index from 1": calling([call("f", A, index=1, id="c1")], [call("g", B, index=2, id="c2")]),
}  # fmt: skip


@each("kind", KINDS)
@each("name", TWO_CALLS)
@each("cuts", [0, 61])
def test_two_calls_are_two_calls(kind: str, name: str, cuts: int) -> None:
    chunks, _ = relay(kind, TWO_CALLS[name], cuts)
    message = assemble(chunks)[0]
    ids = [entry[0] for entry in message["calls"]]
    assert [(entry[1], json.loads(entry[2])) for entry in message["calls"]] == [("f", {"a": 1}), ("g", {"b": 2})]
    assert len(set(ids)) == 2
    if not name.startswith("ids"):
        assert ids == ["c1", "c2"]
    assert message["finish"] == "tool_calls"


@each("kind", KINDS)
@each("word", ["stop", "STOP", "eos"])
def test_stream_with_calls_ends_with_tool_calls(kind: str, word: str) -> None:
    deltas = [[call("f", "", index=0, id="c1")], [call(arguments=A, index=0)]]
    events = [*(chunk({"tool_calls": delta}) for delta in deltas), chunk({}, word)]
    assert assemble(relay(kind, events)[0])[0]["finish"] == "tool_calls"
    assert assemble(relay(kind, [*events[:2], chunk({}, "length")])[0])[0]["finish"] == "length"
    in_one_chunk = [chunk({"tool_calls": [call("f", A, index=0, id="c1")]}, word)]
    assert assemble(relay(kind, in_one_chunk)[0])[0]["finish"] == "tool_calls"


@each("kind", KINDS)
def test_two_calls_of_one_function_without_ids_are_two(kind: str) -> None:
    chunks, _ = relay(kind, calling([call("f", A, index=0)], [call("f", B, index=0)]))
    assert [json.loads(entry[2]) for entry in assemble(chunks)[0]["calls"]] == [{"a": 1}, {"b": 2}]


@each("kind", KINDS)
@each("junk", [[{}], [None], [{"index": 0}], [{"type": "web_search_call", "id": "w", "function": {"name": "s"}}]])
def test_what_is_not_a_call_of_the_caller_does_not_look_like_one(kind: str, junk: list[Any]) -> None:
    chunks, _ = relay(kind, [chunk({"tool_calls": junk}), chunk({"content": "A"}), chunk({}, "stop")])
    assert assemble(chunks)[0] == {"content": "A", "calls": [], "finish": "stop"}


@each("kind", KINDS)
def test_call_without_arguments_gets_an_empty_object(kind: str) -> None:
    for deltas in ([call("f", "", index=0, id="c1")], [call("f", None, index=0, id="c1")], [call("f", {}, index=0, id="c1")]):
        assert assemble(relay(kind, calling(deltas))[0])[0]["calls"] == [["c1", "f", "{}"]]


IRREGULAR: dict[str, dict[str, Any]] = {
    "filter chunk": {
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "choices": [{"index": 0, "finish_reason": None}],
    },
    "null delta": {**chunk({}), "choices": [{"index": 0, "delta": None, "finish_reason": None}]},
    "null choices": {**chunk({}), "choices": None},
    "no choices": {"id": "c1"},
    "empty finish": chunk({}, ""),
    "other id": {**chunk({}), "id": "other", "created": 2, "model": "m2"},
    "parts": chunk({"content": []}),
}


@each("kind", KINDS)
@each("name", IRREGULAR)
def test_irregular_chunk_gets_the_shape_of_the_others(kind: str, name: str) -> None:
    text = [chunk({"role": "assistant", "content": "A"}), chunk({"content": "B"}), chunk({"content": "C"})]
    for at in (0, 2, 3, 4):
        events = [*text, chunk({}, "stop")]
        if at != 0 or name in ("filter chunk", "null choices"):
            events.insert(at, IRREGULAR[name])
        assert assemble(relay(kind, events)[0])[0] == {"content": "ABC", "calls": [], "finish": "stop"}


@each("kind", KINDS)
@each(
    ("word", "reason"),
    [
        ("MAX_TOKENS", "length"), ("content_filter: PROHIBITED_CONTENT", "content_filter"), ("SAFETY", "content_filter"),
        ("eos", "stop"), ("model_length", "length"), ("end_turn", "stop"), ("tool_use", "stop"), ("STOP", "stop"),
    ],
)  # fmt: skip
def test_finish_words_are_openais(kind: str, word: str, reason: str) -> None:
    chunks, _ = relay(kind, [chunk({"content": "A"}), chunk({}, word)])
    assert assemble(chunks)[0]["finish"] == reason
    target = target_for(kind)
    decoded = target.kind.decode(json.dumps(answer({"content": "A"}, word)).encode(), target, Options())
    assert decoded.finish_reasons == (reason,)
    assert json.loads(decoded.body)["choices"][0]["finish_reason"] == reason


@each("kind", KINDS)
def test_malformed_function_call_is_never_a_success(kind: str) -> None:
    word = "function_call_filter: MALFORMED_FUNCTION_CALL"
    target = target_for(kind)
    for attempt in (
        lambda: relay(kind, [chunk({}, word)]),
        lambda: target.kind.decode(json.dumps(answer({"content": None}, word)).encode(), target, Options()),
    ):
        with pytest.raises(StreamFailure, match="MALFORMED_FUNCTION_CALL"):
            attempt()


@each("kind", KINDS)
def test_end_with_calls_that_never_came_is_a_stop(kind: str) -> None:
    chunks, _ = relay(kind, [chunk({"content": "Hi"}), chunk({}, "tool_calls")])
    assert assemble(chunks)[0]["finish"] == "stop"
    target = target_for(kind)
    body = json.dumps(answer({"content": "Hi"}, "tool_calls")).encode()
    assert json.loads(target.kind.decode(body, target, Options()).body)["choices"][0]["finish_reason"] == "stop"


@each("kind", KINDS)
def test_usage_in_groqs_member_is_read_from_every_server(kind: str) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    _, booked = relay(kind, [chunk({"content": "Hi"}), chunk({}, "stop") | {"x_groq": {"id": "r", "usage": usage}}])
    assert booked is not None
    assert (booked.prompt_tokens, booked.completion_tokens) == (3, 2)


@each("kind", KINDS)
def test_chunks_of_a_text_completion_have_their_text_in_the_delta(kind: str) -> None:
    texts = [{"id": "c", "choices": [{"index": 0, "text": text, "finish_reason": None}]} for text in ("Hel", "lo")]
    chunks, _ = relay(kind, [*texts, {"id": "c", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}])
    assert assemble(chunks)[0]["content"] == "Hello"


def _failure_of(kind: str, events: list[Any]) -> Failure:
    with pytest.raises(StreamFailure) as failed:
        relay(kind, events)
    return failed.value.failure


@each("kind", KINDS)
def test_error_keeps_its_status_and_words(kind: str) -> None:
    error = {"code": 429, "message": "Rate limited upstream"}
    choice = {"index": 0, "delta": {}, "finish_reason": "error"}
    target = target_for(kind)
    failures = [
        _failure_of(kind, [{**chunk({}), "error": error, "choices": [choice]}]),
        _failure_of(kind, [{**chunk({}), "choices": [{**choice, "error": error}]}]),
        _failure_of(kind, [[{"error": error}]]),
        _failure_of(kind, [chunk({"content": "A"}), {**chunk({}), "error": error, "choices": [choice]}]),
    ]
    inside = answer({"content": ""}, "error")
    inside["choices"][0]["error"] = error
    for body in (inside, {**answer({"content": "x" * 999}, "error"), "error": error}):
        with pytest.raises(StreamFailure) as failed:
            target.kind.decode(json.dumps(body).encode(), target, Options())
        failures.append(failed.value.failure)
    assert {(failure.kind, failure.status, failure.message) for failure in failures} == {("rate_limit", 429, "Rate limited upstream")}


USAGES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "reasoning beside": (
        {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 112, "completion_tokens_details": {"reasoning_tokens": 100}},
        (10, 102, 0),
    ),
    "hidden in the total": ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 112}, (10, 102, 0)),
    "cached at the top": ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "cached_tokens": 4}, (10, 2, 4)),
    "ordinary": ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, (10, 2, 0)),
}


@each("kind", KINDS)
@each("name", USAGES)
@each("place", ["own chunk", "finish chunk", "choice", "JSON"])
def test_usage_is_shown_as_it_is_booked(kind: str, name: str, place: str) -> None:
    given, expected = USAGES[name]
    if name == "hidden in the total" and kind != "gemini":
        expected = (10, 2, 0)  # the total of other vendors proves nothing
    finish = chunk({}, "stop")
    if place == "JSON":
        target = target_for(kind)
        decoded = target.kind.decode(json.dumps(answer({"content": "A"}, "stop", usage=given)).encode(), target, Options())
        shown, booked = json.loads(decoded.body)["usage"], decoded.usage
    else:
        if place == "own chunk":
            events = [finish, {**chunk({}), "choices": [], "usage": given}]
        else:
            (finish if place == "finish chunk" else finish["choices"][0])["usage"] = given
            events = [finish]
        chunks, booked = relay(kind, [chunk({"content": "A"}), *events])
        shown = chunks[-1]["usage"]
        assert assemble(chunks)[0]["finish"] == "stop"
    assert booked is not None
    assert (booked.prompt_tokens, booked.completion_tokens, booked.cached_tokens) == expected
    cached = (shown.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    assert (shown["prompt_tokens"], shown["completion_tokens"], cached) == expected


@each("kind", KINDS)
def test_message_of_a_json_answer_is_complete(kind: str) -> None:
    target = target_for(kind)
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "", "function": {"name": "g", "arguments": ""}}]
    body = {**answer({}, "tool_calls"), "choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    message = json.loads(target.kind.decode(json.dumps(body).encode(), target, Options()).body)["choices"][0]["message"]
    assert (message["role"], message["content"]) == ("assistant", None)
    assert [(c["type"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message["tool_calls"]] == [
        ("function", "f", {"a": 1}),
        ("function", "g", {}),
    ]
    assert len({c["id"] for c in message["tool_calls"]} - {""}) == 2


@each("kind", KINDS)
def test_text_of_a_known_sort_is_passed_without_decoding(kind: str) -> None:
    target = target_for(kind)
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    decoder.feed("", json.dumps(chunk({"role": "assistant", "content": ""})).encode())
    lines = [b"data: " + json.dumps(chunk({"content": text})).encode() + b"\n\n" for text in ("A", 'say \\"B\\"', "C\n")]
    decoder.feed("", lines[0][6:-2])
    assert decoder.convert(b"".join(lines)) == b"".join(lines)
    for other in (
        chunk({"content": "A"}, "stop"),
        chunk({"content": ["A"]}),
        chunk({"tool_calls": []}),
        {**chunk({"content": "A"}), "id": "x"},
    ):
        assert decoder.convert(b"".join([*lines, b"data: " + json.dumps(other).encode() + b"\n\n"])) is None


def _feed(kind: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    target = target_for(kind)
    decoder = target.kind.decoder(target, Options(stream=True))
    assert decoder is not None
    return [json.loads(data) for event in events for data in decoder.feed("", json.dumps(event).encode()) if data != b"[DONE]"]


def test_anthropic_arguments_of_a_server_tool_are_no_call() -> None:
    chunks = _feed(
        "anthropic",
        {"type": "message_start", "message": {"id": "m1", "model": "m"}},
        {"type": "content_block_start", "content_block": {"type": "server_tool_use", "id": "s1", "name": "web_search"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"query":"x"}'}},
        {"type": "content_block_stop"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    )
    assert assemble(chunks)[0] == {"content": "", "calls": [], "finish": "stop"}


def test_cohere_call_without_arguments_gets_an_empty_object() -> None:
    def tool(kind: str, calls: dict[str, Any]) -> dict[str, Any]:
        return {"type": kind, "delta": {"message": {"tool_calls": calls}}}

    chunks = _feed(
        "cohere",
        {"type": "message-start", "id": "m1"},
        tool("tool-call-start", {"id": "c1", "function": {"name": "f", "arguments": ""}}),
        {"type": "tool-call-end"},
        tool("tool-call-start", {"id": "c2", "function": {"name": "g", "arguments": ""}}),
        tool("tool-call-delta", {"function": {"arguments": B}}),
        {"type": "tool-call-end"},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    )
    assert assemble(chunks)[0]["calls"] == [["c1", "f", "{}"], ["c2", "g", B]]


def test_unknown_finish_word_of_cohere_is_in_the_message() -> None:
    with pytest.raises(StreamFailure, match="NEW_WORD"):
        _feed("cohere", {"type": "message-end", "delta": {"finish_reason": "NEW_WORD"}})


def _random_stream(random: Random) -> list[Any]:
    """Return a stream of one choice with irregularities of several vendors."""
    events: list[Any] = [chunk({"role": "assistant", "content": ""})]
    for _ in range(random.randrange(6)):
        events += random.choice([*([event] for event in IRREGULAR.values()), [chunk({"content": random.choice(("A", "\u00e9", '"'))})] * 3])
    calls = random.choice([[], *TWO_CALLS.values()])
    return [*events, *(calls or [chunk({}, random.choice(("stop", "MAX_TOKENS")))])]


def _check_random_streams(count: int) -> None:
    random = Random(12)
    for _ in range(count):
        kind, events = random.choice(KINDS), _random_stream(random)
        whole, _ = relay(kind, events)
        pieces, _ = relay(kind, events, random.choice((1, 2, 7, 40, 300)))
        message, in_pieces = (_without_random_ids(assemble(chunks)[0]) for chunks in (whole, pieces))
        assert message == in_pieces, (kind, events)


def _without_random_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [[call_id if call_id in ("c1", "c2") else "", *rest] for call_id, *rest in message["calls"]]
    return {**message, "calls": calls}


def test_message_is_the_same_for_every_chunking() -> None:
    _check_random_streams(60)


@pytest.mark.prove
def test_message_is_the_same_for_thousands_of_chunkings() -> None:
    _check_random_streams(600)


@each("kind", KINDS)
def test_role_of_every_chunk_is_sent_once(kind: str) -> None:
    chunks, _ = relay(kind, [*(chunk({"role": "assistant", "content": text}) for text in "ABCDE"), chunk({}, "stop")])
    assert assemble(chunks)[0]["content"] == "ABCDE"
    assert ["role" in c["choices"][0]["delta"] for c in chunks] == [True, *[False] * 5]


@each("kind", KINDS)
@each("usage", [{}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": None}])
def test_a_usage_without_counts_is_not_shown(kind: str, usage: dict[str, Any]) -> None:
    counted = chunk({}, "stop") | {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    events = [chunk({"content": "a"}, usage=usage), chunk({}, "stop", usage=usage), {**counted, "usage": usage}, counted]
    chunks, booked = relay(kind, events)
    assert [each["usage"]["total_tokens"] for each in chunks if each.get("usage") is not None] == [7]
    assert chunks[-1]["choices"] == []
    assert booked == Usage(5, 2)
