"""Chat streams become numbered events in OpenAI's order, and nothing of their content is lost."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.responses_api.open_items import Text
from gateway.dialects.responses_api.request import RequestReader
from gateway.dialects.responses_api.stream import ResponseStream, frame_of
from gateway.dialects.responses_api.values import Raw
from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers.base import Options
from providers.usage import read_usage
from tests.dialects.responses_api.grammar import assemble, parse, response_of, translator
from tests.providers.adapting import target_for
from tests.providers.server import Request
from tests.providers.wires import answer, chunk, good_reply

KINDS = (
    "anthropic", "azure", "cerebras", "cohere", "deepseek", "fireworks", "friendli", "gemini", "goodfire",
    "groq", "llamacpp", "mistral", "ollama", "openai", "openai-compatible", "openrouter", "siati", "together", "vllm", "xai",
)  # fmt: skip
USAGE = {
    "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip
DONE = b"data: [DONE]\n\n"


def sse(*events: dict[str, Any]) -> bytes:
    """Return events of a chat stream."""
    return b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events)


def run(*deltas: dict[str, Any], finish: str = "stop", **body: Any) -> dict[str, Any]:
    """Translate a stream of deltas, and return the checked response."""
    made = translator(stream=True, **body)
    out = b"".join(made.feed(sse(chunk(delta))) for delta in deltas)
    return assemble(out + made.end(sse(chunk({}, finish), chunk({}, None, choices=[], usage=USAGE)) + DONE))


def call(index: int, arguments: str, name: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a delta with a piece of a call."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {
        "tool_calls": [
            {"index": index, "function": function, **({"id": f"c{index}", "type": "function"} if name else {}), **more}
        ]
    }


def test_text_has_the_events_of_openai_in_their_order() -> None:
    made = translator(stream=True)
    out = made.feed(sse(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}))) + made.feed(
        sse(chunk({"content": "lo"}))
    )
    out += made.end(sse(chunk({}, "stop")) + DONE)
    assert [event["type"] for event in parse(out)] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert assemble(out)["output"][0]["content"] == [
        {"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}
    ]


def test_events_arrive_with_the_chunk_that_causes_them() -> None:
    made = translator(stream=True)
    assert b"response.created" in made.feed(sse(chunk({"role": "assistant"})))
    assert b'"delta":"a"' in made.feed(sse(chunk({"content": "a"})))
    assert b'"delta":"b\\n\\u00e9"' in made.feed(sse(chunk({"content": "b\né"})))


def test_reasoning_precedes_the_text_and_the_call() -> None:
    response = run(
        {"reasoning_content": "I "}, {"reasoning_content": "think"}, {"content": "So"}, call(0, "", "f"), call(0, "{}")
    )
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call"]
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "I think"}]
    assert response["output"][0]["summary"] == []
    assert (response["output"][2]["call_id"], response["output"][2]["arguments"]) == ("c0", "{}")


def test_reasoning_is_a_summary_if_the_caller_asks_for_one() -> None:
    response = run({"reasoning": "Thus"}, {"content": "So"}, reasoning={"summary": "auto"})
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "Thus"}]
    assert "content" not in response["output"][0]


def test_usage_keeps_cached_written_and_reasoning_tokens() -> None:
    assert run({"content": "a"})["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 17,
    }


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_cut_answer_is_incomplete(finish: str, reason: str) -> None:
    response = run({"content": "a"}, call(0, '{"a":', "f"), finish=finish)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]


def test_parallel_calls_are_closed_as_soon_as_they_are_whole() -> None:
    made = translator(stream=True)
    made.feed(sse(chunk(call(0, '{"a":1}', "f"))))
    types = [event["type"] for event in parse(made.feed(sse(chunk(call(1, "", "g")))))]
    assert types[:2] == ["response.function_call_arguments.done", "response.output_item.done"]


def test_interleaved_calls_lose_nothing() -> None:
    response = run(call(0, '{"a', "f"), call(1, '{"b', "g"), call(0, '":1}'), call(1, '":2}'))
    assert [(item["name"], item["arguments"]) for item in response["output"]] == [("f", '{"a":1}'), ("g", '{"b":2}')]


def test_custom_call_has_its_own_events() -> None:
    piece = {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]}
    response = run(piece, {"tool_calls": [{"index": 0, "custom": {"input": " -l"}}]})
    assert response["output"][0]["input"] == "ls -l"
    assert (response["output"][0]["type"], response["output"][0]["call_id"]) == ("custom_tool_call", "c")


def test_refusal_logprobs_and_annotations_stay_with_their_part() -> None:
    token = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}
    made = translator(stream=True, include=["message.output_text.logprobs"])
    with_logprobs = chunk({"content": "a"})
    with_logprobs["choices"][0]["logprobs"] = {"content": [token]}
    note = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
    out = made.feed(sse(with_logprobs, chunk({"annotations": [note]}), chunk({"refusal": "No"})))
    content = assemble(out + made.end(sse(chunk({}, "stop")) + DONE))["output"][0]["content"]
    assert content[0]["logprobs"] == [token]
    assert content[0]["annotations"] == [
        {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    ]
    assert content[1] == {"type": "refusal", "refusal": "No"}


def test_empty_stream_has_an_empty_message() -> None:
    made = translator(stream=True)
    response = assemble(made.end(DONE))
    assert response["output"][0]["content"][0]["text"] == ""
    assert response["model"] == "m"


def test_comments_pass_and_nothing_follows_the_end() -> None:
    made = translator(stream=True)
    assert made.feed(b": keepalive\n\n") == b": keepalive\n\n"
    out = made.feed(sse(chunk({"content": "a"})) + b": keepalive\n\n")
    assert out.endswith(b": keepalive\n\n")
    assemble(out + made.end(DONE))


def test_broken_stream_fails_with_what_it_had_and_ends_no_item() -> None:
    made = translator(stream=True)
    out = made.feed(sse(chunk({"content": "a"}), chunk(call(0, '{"a":', "f"))))
    out += made.end(
        b'data: {"error":{"message":"cut","type":"upstream_error","param":null,"code":"upstream_truncated"}}\n\n'
    )
    response = assemble(out)
    assert response["error"] == {"code": "server_error", "message": "cut", "gateway_code": "upstream_truncated"}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert "response.function_call_arguments.done" not in [event["type"] for event in parse(out)]


def test_receipt_and_service_tier_are_in_the_last_event() -> None:
    made = translator(stream=True)
    out = made.feed(sse(chunk({"content": "a"}, service_tier="flex")))
    final = assemble(out + made.end(sse({"id": "c1", "choices": [], "gateway": {"target": "t"}}) + DONE))
    assert (final["service_tier"], final["gateway"]) == ("flex", {"target": "t"})


def test_other_choices_are_not_part_of_the_response() -> None:
    other = {**chunk({"content": "b"}), "choices": [{**chunk({"content": "b"}, "length")["choices"][0], "index": 1}]}
    made = translator(stream=True)
    out = made.feed(sse(chunk({"content": "a"}), other, chunk({"content": "a"}))) + made.end(sse(chunk({}, "stop")) + DONE)
    final = assemble(out)
    assert (final["output"][0]["content"][0]["text"], final["status"]) == ("aa", "completed")


def relayed(kind: str, wire: bytes, size: int) -> list[bytes]:
    """Return the pieces that a caller of chat completions gets for a provider's bytes, cut into pieces of `size`."""
    target = target_for(kind)
    relay = Relay(
        decoder=target.kind.decoder(target, Options(stream=True)),
        usage_asked=True,
        read_usage=read_usage,
        fail=lambda data: inband_failure(target, data),
    )
    pieces = [relay.feed(wire[at : at + size]) for at in range(0, len(wire), size)]
    return [piece for piece in (*pieces, relay.end()) if piece]


@pytest.mark.parametrize("calls", [False, True], ids=["text", "calls"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_providers_stream_gives_the_response_of_its_answer(kind: str, calls: bool) -> None:
    body = {"stream": True, "stream_options": {"include_usage": True}} | ({"tools": [{}]} if calls else {})
    wire = good_reply(kind, Request("/", {}, body)).body
    finals = []
    for size in (7, 64, len(wire)):
        made = translator(stream=True)
        out = b"".join(made.feed(piece) for piece in relayed(kind, wire, size))
        finals.append(assemble(out + made.end(DONE)))
        for item in finals[-1]["output"]:
            item.pop("call_id", None)  # an id that a provider omits is random
    assert finals[0]["output"] == finals[1]["output"] == finals[2]["output"]
    output = finals[0]["output"]
    if calls and kind != "goodfire":
        assert json.loads(output[-1]["arguments"]) == {"city": "Bern"}
        assert output[-1]["name"] == "get_weather"
    else:
        assert output[-1]["content"][0]["text"] == "Hello there"
    if kind not in ("goodfire",):
        assert finals[0]["usage"]["total_tokens"] == 7


def random_deltas(random: Random) -> list[dict[str, Any]]:
    """Return the deltas of a random answer."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    letters = ["a", "é", '"', "\\", "\n", "😀", " word"]
    for number in range(random.randrange(6)):
        kind = random.choice(
            ["content", "reasoning_content", "reasoning", "refusal", "call", "custom", "blocks", "note", "both"]
        )
        texts = ["".join(random.choices(letters, k=random.randrange(4))) for _ in range(random.randrange(1, 4))]
        if kind == "call":
            whole = json.dumps({"text": "".join(texts)})
            cut = random.randrange(len(whole) + 1)
            deltas += [call(number, whole[:cut], "f"), call(number, whole[cut:])]
        elif kind == "custom":
            opened = {
                "index": number,
                "id": f"c{number}",
                "type": "custom",
                "custom": {"name": "sh", "input": texts[0]},
            }
            deltas += [
                {"tool_calls": [opened]},
                *({"tool_calls": [{"index": number, "custom": {"input": text}}]} for text in texts[1:]),
            ]
        elif kind == "blocks":
            deltas.append(
                {"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": "s"} for text in texts]}
            )
        elif kind == "note":
            deltas.append(
                {
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
                        }
                    ]
                }
            )
        elif kind == "both":
            deltas += [{"reasoning_content": text, "content": text} for text in texts]
        else:
            deltas += [{kind: text} for text in texts]
    return deltas


def check_random_streams(seed: int, count: int) -> None:
    """Check the grammar of random streams, and that no text is lost."""
    random = Random(seed)
    for _ in range(count):
        deltas = random_deltas(random)
        if random.random() < 0.3:  # pieces of several calls and of text may be mixed
            starts = {json.dumps(delta) for delta in deltas if "name" in json.dumps(delta)}
            deltas = sorted(deltas, key=lambda delta: json.dumps(delta) not in starts)
        made, out = translator(stream=True), b""
        events = [sse(chunk(delta)) for delta in deltas] + [
            sse(chunk({}, random.choice(["stop", "length", "tool_calls"])))
        ]
        while events:
            size = random.randrange(1, 4)
            out += made.feed(b"".join(events[:size]))
            events = events[size:]
        broken = random.random() < 0.2
        last = (
            b'data: {"error":{"message":"cut","code":"x"}}\n\n'
            if broken
            else sse(chunk({}, choices=[], usage=USAGE)) + DONE
        )
        final = assemble(out + made.end(last), typed=False)
        for name, kinds in (
            ("content", ("output_text",)),
            ("refusal", ("refusal",)),
            ("reasoning_content", ("reasoning_text",)),
        ):
            said = "".join(
                delta.get(name) or (delta.get("reasoning") or "" if name == "reasoning_content" else "")
                for delta in deltas
            )
            parts = [part for item in final["output"] for part in item.get("content", [])]
            assert "".join(part.get("text", part.get("refusal")) for part in parts if part["type"] in kinds) == said
        assert broken or final["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 3}


def test_random_streams_keep_the_grammar_and_their_text() -> None:
    check_random_streams(1, 150)


@pytest.mark.prove
def test_many_random_streams_keep_the_grammar_and_their_text() -> None:
    for seed in range(10):
        check_random_streams(seed, 2_000)


def test_stream_and_answer_give_the_same_output() -> None:
    message = {
        "content": "So",
        "reasoning_content": "Thus",
        "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    streamed = run({"reasoning_content": "Thus"}, {"content": "So"}, call(0, "{}", "f"), finish="tool_calls")
    answered = response_of(answer(message, "tool_calls", usage=USAGE))
    assert streamed["output"] == answered["output"]
    assert streamed["usage"] == answered["usage"]
    assert streamed.keys() == answered.keys()


def test_frame_matches_only_texts_without_escapes() -> None:
    text = Text("response.output_text.delta", {})
    frame = frame_of(b'{"id":"a","content":"one","x":1}', text, Raw(b'"one"'))
    assert frame is not None
    assert frame.text_of(b'data:{"id":"a","content":"two","x":1}') == b"two"
    for other in (
        b'{"id":"a","content":"\\n","x":1}',
        b'{"id":"a","content":"","x":1}',
        b'{"id":"b","content":"two","x":1}',
    ):
        assert frame.text_of(b"data:" + other) == b""
    assert frame.text_of(b'data:{"id":"a","content":"a","content":"b","x":1}') == b""
    assert frame_of(b'{"id":"one","content":"one"}', text, Raw(b'"one"')) is None


def test_stream_without_a_model_names_that_of_the_request() -> None:
    reader = RequestReader(strict=False)
    reader.read(b'{"model":"m","input":"Hi"}')
    assert b'"model":"m"' in ResponseStream(reader).feed(b'data: {"choices":[]}\n\n')


@pytest.mark.parametrize("logprobs", ["x", "", 1, ["x"], {"content": "x"}, {"content": {}}])
def test_log_probabilities_of_another_form_are_left_out(logprobs: Any) -> None:
    piece, whole = chunk({"content": "Hi"}), answer({"content": "Hi"}, "stop")
    piece["choices"][0]["logprobs"] = whole["choices"][0]["logprobs"] = logprobs
    made = translator()
    streamed = assemble(made.feed(sse(piece, chunk({}, "stop"))) + made.end(b"data: [DONE]\n\n"))
    for response in (streamed, response_of(whole)):
        (part,) = response["output"][0]["content"]
        assert (part["text"], part["logprobs"]) == ("Hi", [])
