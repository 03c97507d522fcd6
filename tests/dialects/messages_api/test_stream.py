"""Chat streams become Messages streams in Anthropic's order, and nothing is lost."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.messages_api.events import PING, BlockWriter
from gateway.dialects.messages_api.stream import MessageStream
from gateway.dialects.messages_api.tool_stream import ToolStream
from gateway.errors import UpstreamFailed
from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import DONE, Relay
from providers.base import Options
from providers.message_tables import ROWS
from providers.usage import read_usage
from tests.dialects.messages_api.grammar import read_events, read_message
from tests.providers.adapting import target_for
from tests.providers.server import Request
from tests.providers.wires import chunk, good_reply

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
NO_TOKENS = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}


def events(*chunks: dict[str, Any]) -> list[bytes]:
    """Return the events of a chat stream with [DONE]."""
    return [*(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks), DONE]


def translate(*pieces: bytes, stops: tuple[str, ...] = ()) -> bytes:
    """Translate pieces of a chat stream."""
    stream = MessageStream("requested", stops)
    return b"".join(stream.feed(piece) for piece in pieces)


def message(*deltas: dict[str, Any], finish: str = "stop", stops: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """Return the message for a chat stream of these deltas. It must be the same if the events come one by one or all together."""
    chunks = [chunk(delta) for delta in deltas]
    listed = events(*chunks, chunk({}, finish, **more), chunk({}) | {"choices": [], "usage": USAGE})
    alone, together = translate(*listed, stops=stops), translate(b"".join(listed), stops=stops)
    if b"toolu_" not in alone:  # ids that the upstream left out are new each time
        assert alone == together
    return read_message(alone)


def call(index: int | None, arguments: Any = "", **more: Any) -> dict[str, Any]:
    """Return a delta with a piece of a tool call; `id` and `name` begin one."""
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [({} if index is None else {"index": index}) | more | {"function": function}]}


def used(name: str, id: str, arguments: str) -> dict[str, Any]:
    """Return a tool's block as the checker assembles it."""
    return {"type": "tool_use", "id": id, "name": name, "input": {}, "arguments": arguments}


def text(value: str, **more: Any) -> dict[str, Any]:
    """Return a text block."""
    return {"type": "text", "text": value, **more}


def test_a_text_is_one_block_and_usage_comes_last() -> None:
    result = message({"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": "lo"})
    assert result["content"] == [text("Hello")]
    assert (result["id"], result["model"], result["stop_reason"]) == ("c1", "m", "end_turn")
    assert result["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 8,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }


def test_every_kind_of_content_is_kept_at_a_blocks_change() -> None:
    result = message(
        {"reasoning_content": "h"},
        {"reasoning_content": "m", "content": "A"},
        {"content": "B", **call(0, '{"x"', id="a", name="f")},
        call(0, ":1}"),
        {"content": "C", "reasoning_content": "hm?"},
        {"refusal": "no"},
        finish="tool_calls",
    )
    assert result["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        text("AB"),
        used("f", "a", '{"x":1}'),
        {"type": "thinking", "thinking": "hm?", "signature": ""},
        text("Cno"),
    ]
    assert result["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"thinking_blocks": [SIGNED]}],
        [{"reasoning": "hm"}, {"thinking_blocks": [SIGNED]}],
        [{"thinking_blocks": [SIGNED]}],
        [{"reasoning_content": "hm", "thinking_blocks": [SIGNED]}],
        [{"reasoning_content": "hm", "thinking_blocks": [{**SIGNED, "signature": None}]},
         {"thinking_blocks": [{**SIGNED, "thinking": ""}]}],
        [{"thinking_blocks": [{**SIGNED, "signature": ""}]}, {"thinking_blocks": [{**SIGNED, "thinking": ""}]}],
    ],
)  # fmt: skip
def test_signed_thinking_comes_once_with_its_signature(deltas: list[dict[str, Any]]) -> None:
    result = message(*deltas, {"thinking_blocks": [HIDDEN]}, {"content": "A"})
    assert result["content"] == [SIGNED, HIDDEN, text("A")]


def test_thinking_whose_text_is_omitted_keeps_its_signature() -> None:
    assert message({"thinking_blocks": [{**SIGNED, "thinking": ""}]})["content"] == [{**SIGNED, "thinking": ""}]


def test_two_thinking_blocks_stay_two() -> None:
    other = {**SIGNED, "thinking": "oh", "signature": "b3Ro"}
    deltas = [{"reasoning_content": "hm"}, {"thinking_blocks": [SIGNED]}, {"reasoning_content": "oh"}, {"thinking_blocks": [other]}]
    assert message(*deltas)["content"] == [SIGNED, other]


@pytest.mark.parametrize(
    "deltas",
    [
        [call(0, id="a", name="f"), call(0, '{"x":'), call(0, "1}"), call(1, id="b", name="g"), call(1, "{}")],
        [call(0, id="a", name="f"), call(1, id="b", name="g"), call(0, '{"x":'), call(1, "{"), call(0, "1}"), call(1, "}")],
        [call(1, "{}", id="b", name="g") | {}, call(0, '{"x":1}', id="a", name="f")][::-1],
        [call(None, '{"x":1}', id="a", name="f"), call(None, "{}", id="b", name="g")],
        [call(0, '{"x":1}', id="a", name="f"), call(0, "{}", id="b", name="g")],
        [call(0, '{"x":1}', id="a", name="f"), call(0, "", id="a", name="f"), call(1, {}, id="b", name="g")],
        [call(None, id="a", name="f"), call(None, '{"x":1}'), call(None, id="b", name="g"), call(None, "{}")],
    ],
)
def test_parallel_calls_become_blocks_in_sequence(deltas: list[dict[str, Any]]) -> None:
    result = message({"content": "ok"}, *deltas, finish="tool_calls")
    assert result["content"] == [text("ok"), used("f", "a", '{"x":1}'), used("g", "b", "{}")]


def test_text_between_the_pieces_of_a_call_waits_for_the_call() -> None:
    result = message(call(0, '{"x":', id="a", name="f"), {"content": "A"}, call(0, "1}"), {"content": "B"}, finish="tool_calls")
    assert result["content"] == [used("f", "a", '{"x":1}'), text("AB")]


def test_calls_that_were_cut_off_keep_their_pieces() -> None:
    deltas = [call(0, '{"x":', id="a", name="f"), call(1, '{"y', id="b", name="g"), {"content": "A"}]
    result = message(*deltas, finish="length")
    assert result["content"] == [used("f", "a", '{"x":'), used("g", "b", '{"y'), text("A")]
    assert result["stop_reason"] == "max_tokens"


def test_a_call_without_an_id_gets_one() -> None:
    (block,) = message(call(0, "{}", name="f"), finish="stop")["content"]
    assert block["id"].startswith("toolu_")


@pytest.mark.parametrize(
    ("finish", "more", "reason", "sequence"),
    [
        ("stop", {}, "end_turn", None),
        ("length", {}, "max_tokens", None),
        ("content_filter", {}, "refusal", None),
        ("something", {}, "end_turn", None),
        ("stop", {"stop_sequence": "END"}, "stop_sequence", "END"),
        ("stop", {"stop_reason": "END"}, "stop_sequence", "END"),
        ("stop", {"stop_reason": "other"}, "end_turn", None),
        ("stop", {"stop_reason": 2}, "end_turn", None),
    ],
)
def test_stop_reasons(finish: str, more: dict[str, Any], reason: str, sequence: str | None) -> None:
    last = chunk({}, finish)
    last["choices"][0] |= more
    result = read_message(translate(*events(chunk({"content": "A"}), last), stops=("END",)))
    assert (result["stop_reason"], result["stop_sequence"]) == (reason, sequence)


def test_citations_follow_their_text_and_end_its_block() -> None:
    citation = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None}
    place = {"start_index": 0, "end_index": 1, "url": "", "title": ""}
    original = {"type": "url_citation", "url_citation": place, "citation": citation}
    web = {"type": "url_citation", "url_citation": {**place, "url": "https://a", "title": "T"}}
    result = message({"content": "A"}, {"annotations": [original]}, {"annotations": [web, "?"]}, {"content": "B"})
    found = {"type": "web_search_result_location", "url": "https://a", "title": "T", "cited_text": "", "encrypted_index": ""}
    assert result["content"] == [text("A", citations=[citation, found]), text("B")]


def test_a_stream_without_content_is_a_message_without_blocks() -> None:
    result = read_message(translate(*events(chunk({}, "stop"))))
    assert (result["content"], result["usage"]) == ([], NO_TOKENS)
    assert read_message(translate(DONE))["model"] == "requested"


def test_heartbeats_are_pings_once_the_message_has_begun() -> None:
    stream = MessageStream()
    assert stream.feed(b": keepalive\n\n") == b": keepalive\n\n"
    stream.feed(events(chunk({"content": "A"}))[0])
    assert stream.feed(b": keepalive\n\n") == PING


def test_the_receipt_is_part_of_the_message_delta() -> None:
    receipt = chunk({}) | {"choices": [], "gateway": {"request_id": "r"}}
    delta = read_events(translate(*events(chunk({"content": "A"}, "stop"), receipt)))[-2]
    assert delta["gateway"] == {"request_id": "r"}


def test_an_error_is_the_last_event() -> None:
    failed = {"error": {"message": "gone", "type": "upstream_error", "param": None, "code": "upstream_stalled"}}
    stream = MessageStream()
    stream.request_id = "req_1"
    out = stream.feed(events(chunk({"content": "A"}))[0]) + stream.feed(events(failed)[0])
    error = {"type": "timeout_error", "message": "gone", "code": "upstream_stalled"}
    assert read_events(out)[-1] == {"type": "error", "error": error, "request_id": "req_1"}


@pytest.mark.parametrize("delta", [[], "x", {"tool_calls": {}}, {"tool_calls": [{"function": "f"}]}, {"thinking_blocks": [1]}])
def test_a_chunk_of_the_wrong_types_is_an_upstream_error(delta: Any) -> None:
    with pytest.raises(UpstreamFailed, match="cannot be translated"):
        translate(events(chunk(delta))[0])


def test_further_choices_are_ignored() -> None:
    other = chunk({"content": "B"})
    other["choices"][0]["index"] = 1
    assert read_message(translate(*events(chunk({"content": "A"}, "stop"), other)))["content"] == [text("A")]


def test_writers_work_alone() -> None:
    blocks = BlockWriter()
    tools = ToolStream(blocks)
    assert tools.can_pause()
    blocks.text(b'"a"')
    assert blocks.take().count(b"event: content_block_start") == 1
    assert blocks.take() == b""


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("kind", sorted(set(ROWS) - {"local"}))
def test_every_providers_stream_keeps_the_grammar_for_any_split(kind: str, calls: bool) -> None:
    request = Request("/", {}, {"stream": True, "stream_options": {"include_usage": True}, "tools": [1] if calls else []})
    wire, random = good_reply(kind, request).body, Random(f"{kind}{calls}")
    results = []
    for _ in range(20):
        target = target_for(kind)
        relay = Relay(
            decoder=target.kind.decoder(target, Options(stream=True)),
            usage_asked=True,
            read_usage=read_usage,
            fail=lambda data, target=target: inband_failure(target, data),
        )
        stream, out, at = MessageStream("m"), b"", 0
        while at < len(wire):
            size = random.choice((1, 7, 50, 400))
            out += stream.feed(relay.feed(wire[at : at + size]))
            at += size
        out += stream.feed(relay.end() + DONE)
        results.append(read_message(out))
    for result in results:
        (block,) = result["content"]
        assert block.get("text") == "Hello there" or json.loads(block["arguments"]) == {"city": "Bern"}
        assert result["stop_reason"] == ("tool_use" if block["type"] == "tool_use" else "end_turn")
        if relay.usage is not None:
            usage = relay.usage
            assert result["usage"]["output_tokens"] == usage.completion_tokens
            cached = result["usage"]["cache_read_input_tokens"]
            assert (cached, result["usage"]["input_tokens"]) == (usage.cached_tokens, usage.prompt_tokens - usage.cached_tokens)


def test_random_streams_keep_the_grammar_and_lose_nothing() -> None:
    random = Random(13)
    for _ in range(300):
        deltas, texts, thoughts, arguments = [], "", "", {n: f'{{"n":{n}}}' for n in range(3)}
        left = {index: value for index, value in arguments.items() if random.random() < 0.6}
        chosen = set(left)
        begun: set[int] = set()
        while left or random.random() < 0.7:
            delta: dict[str, Any] = {}
            if random.random() < 0.4:
                delta["content"] = random.choice(("a", "é\n", '"'))
                texts += delta["content"]
            if random.random() < 0.3:
                delta["reasoning_content"] = "t"
                thoughts += "t"
            if left and random.random() < 0.6:
                index = random.choice(sorted(left))
                size = random.randint(0, 4)
                start = {} if index in begun else {"id": f"id{index}", "name": f"f{index}"}
                begun.add(index)
                delta |= call(index, left[index][:size], **start)
                left[index] = left[index][size:]
                if not left[index]:
                    del left[index]
            deltas.append(delta)
        result = message(*deltas, finish="tool_calls")
        blocks = result["content"]
        assert "".join(block["text"] for block in blocks if block["type"] == "text") == texts
        assert "".join(block["thinking"] for block in blocks if block["type"] == "thinking") == thoughts
        found = {block["id"]: block["arguments"] for block in blocks if block["type"] == "tool_use"}
        assert found == {f"id{index}": arguments[index] for index in chosen}
