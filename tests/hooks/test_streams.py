"""Streams on their way through hooks: unusual and malformed events, alternating tool calls, and streams that break off."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.hook import DenyConfig, MaskConfig
from gateway.errors import GatewayError
from gateway.hooks.api import Failure, Hook
from gateway.hooks.deny import DenyList
from gateway.hooks.events import JsonEnd, slots_of
from gateway.hooks.frames import MAX_EVENT_BYTES, Framer, read_frame
from gateway.hooks.load import loaded
from gateway.hooks.masker import Masker
from gateway.hooks.run import HookRun, HookSet, Pieces
from gateway.hooks.stream import HookedEvents
from gateway.hooks.testing import FACTS, run_events
from gateway.metrics import Metrics
from providers.base import Body
from tests.hooks.echo import (
    STREAMS,
    chunk,
    deltas,
    read_events,
)
from tests.support.search import every, examples

EMAIL, OTHER = "ada@example.org", "bob@example.org"
REQUEST = {"messages": [{"role": "user", "content": f"{EMAIL} {OTHER}"}]}


async def masking(*, failure: Failure = "closed", hook: Hook | None = None, reports: list[str] | None = None) -> HookedEvents:
    """Return the events of a call whose request has two masked addresses."""
    report = (lambda line: None) if reports is None else reports.append
    hooks = HookSet([loaded(hook or Masker(MaskConfig()))._replace(failure=failure)], Metrics(), report)
    run: HookRun = hooks.begin(FACTS)
    await run.request([Body(json.dumps(REQUEST).encode())])
    return HookedEvents(run, Pieces(), holds_start=False)


def tool_piece(index: Any, arguments: str, **more: Any) -> dict[str, Any]:
    """Return the piece of a tool call."""
    return {**({} if index is None else {"index": index}), **more, "function": {"arguments": arguments}}


def tool_chunk(*calls: dict[str, Any]) -> bytes:
    """Return a chunk with pieces of tool calls."""
    return chunk([{"index": 0, "delta": {"tool_calls": [*calls]}, "finish_reason": None}])


FINISH = chunk([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])


def arguments_of(stream: bytes) -> dict[str, str]:
    """Return the arguments of each tool call in a stream of chat completions, by its index."""
    whole: dict[str, str] = {}
    for event in read_events(stream):
        for choice in event["choices"]:
            for at, call in enumerate(choice["delta"].get("tool_calls") or []):
                place = str(call.get("index", call.get("id", at)))
                whole[place] = whole.get(place, "") + call["function"]["arguments"]
    return whole


@given(st.lists(st.integers(1, 5), min_size=6, max_size=6), st.integers(1, 90))
@settings(max_examples=examples(300), deadline=None)
async def test_masks_in_alternating_tool_calls_are_restored_for_their_call(sizes: list[int], read: int) -> None:
    given_arguments = {0: '{"to": "[EMAIL_1]", "n": {}}', 1: '{"to": "[EMAIL_2][EMAIL_1"}', 2: '{"a": [1], "to": "\\n[EMAIL_2]"}'}
    restored = {
        "0": f'{{"to": "{EMAIL}", "n": {{}}}}', "1": f'{{"to": "{OTHER}[EMAIL_1"}}', "2": f'{{"a": [1], "to": "\\n{OTHER}"}}',
    }  # fmt: skip
    parts, turn = [], 0
    left = dict(given_arguments)
    while any(left.values()):
        index = turn % 3
        size = sizes[turn % len(sizes)]
        if left[index]:
            parts.append(tool_chunk(tool_piece(index, left[index][:size]), tool_piece((index + 1) % 3, left[(index + 1) % 3][:1])))
            left[(index + 1) % 3] = left[(index + 1) % 3][1:]
            left[index] = left[index][size:]
        turn += 1
    sent = await run_events(Masker(MaskConfig()), b"".join([*parts, FINISH]), size=read, request=REQUEST)
    assert arguments_of(sent) == restored


VALUES = st.recursive(
    st.text(max_size=5) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(VALUES, st.integers(1, 5), st.booleans())
@settings(max_examples=examples(400), deadline=None)
def test_the_end_of_arguments_is_found_at_their_last_character(value: Any, size: int, is_ascii: bool) -> None:
    whole = json.dumps({"a": value}, ensure_ascii=is_ascii)
    end = JsonEnd()
    found = [end.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
    assert found == [False] * (len(found) - 1) + [True]


async def test_held_text_of_a_call_stays_in_the_call() -> None:
    deny = DenyList(DenyConfig(words=("nightfall",), action="replace"))
    cut = [tool_chunk(tool_piece(index, "night", id=f"t{index}")) for index in (0, 1)]
    sent = await run_events(deny, b"".join([*cut, tool_chunk(tool_piece(0, "fall")), tool_chunk(tool_piece(1, "fly")), FINISH]))
    assert arguments_of(sent) == {"0": "[removed]", "1": "nightfly"}


async def test_calls_without_an_index_or_with_one_index_are_kept_apart() -> None:
    whole = ['{"to": "[EMAIL_1]"}', '{"to": "[EMAIL_2]"}']
    without = [tool_chunk(tool_piece(None, each, id=f"t{at}")) for at, each in enumerate(whole)]
    sent = await run_events(Masker(MaskConfig()), b"".join([*without, FINISH]), request=REQUEST)
    assert arguments_of(sent) == {"t0": f'{{"to": "{EMAIL}"}}', "t1": f'{{"to": "{OTHER}"}}'}
    same = [tool_chunk(tool_piece(0, each, id=f"t{at}")) for at, each in enumerate(whole)]
    sent = await run_events(Masker(MaskConfig()), b"".join([*same, FINISH]), request=REQUEST)
    assert [arguments_of(b"data: " + json.dumps(event).encode() + b"\n\n") for event in read_events(sent)[:2]] == [
        {"0": f'{{"to": "{EMAIL}"}}'}, {"0": f'{{"to": "{OTHER}"}}'},
    ]  # fmt: skip


async def test_the_input_of_a_custom_tool_is_restored() -> None:
    parts = [tool_chunk({"index": 0, "custom": {"input": piece}}) for piece in ("to [EM", "AIL_1", "] [EMAIL")]
    sent = read_events(await run_events(Masker(MaskConfig()), b"".join([*parts, FINISH]), request=REQUEST))
    calls = [call for event in sent for call in event["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(call["custom"]["input"] for call in calls) == f"to {EMAIL} [EMAIL"


async def test_the_input_of_a_custom_tool_need_not_be_json() -> None:
    text = "if a] {}\n[EMAIL_1] {b} [EMAIL_2]"
    for cut in range(1, len(text)):
        parts = [tool_chunk({"index": 0, "custom": {"input": piece}}) for piece in (text[:cut], text[cut:])]
        sent = read_events(await run_events(Masker(MaskConfig()), b"".join([*parts, FINISH]), request=REQUEST))
        calls = [call for event in sent for call in event["choices"][0]["delta"].get("tool_calls", ())]
        assert "".join(call["custom"]["input"] for call in calls) == f"if a] {{}}\n{EMAIL} {{b}} {OTHER}", cut


async def test_reasoning_that_a_provider_sends_in_two_fields_is_whole_in_both() -> None:
    text = "to [EMAIL_1]!"
    for cut in range(1, len(text)):
        said = [{"reasoning": piece, "reasoning_content": piece} for piece in (text[:cut], text[cut:])]
        parts = [chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in (*said, {"content": "So"})]
        sent = deltas(await run_events(Masker(MaskConfig()), b"".join([*parts, FINISH]), request=REQUEST))
        assert sorted(sent.values()) == ["So", f"to {EMAIL}!", f"to {EMAIL}!"], cut


async def test_the_details_of_reasoning_are_whole() -> None:
    text = "to [EMAIL_1] [EM"
    for cut in range(1, len(text)):
        said = [{"reasoning_details": [{"type": "reasoning.text", "text": piece, "index": 0}]} for piece in (text[:cut], text[cut:])]
        parts = [chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in (*said, {"content": "So"})]
        sent = read_events(await run_events(Masker(MaskConfig()), b"".join([*parts, FINISH]), request=REQUEST))
        details = [event["choices"][0]["delta"].get("reasoning_details") for event in sent]
        assert details[-2:] == [None, None]
        assert {(each["type"], each["index"]) for (each,) in details[:-2]} == {("reasoning.text", 0)}
        assert "".join(each["text"] for (each,) in details[:-2]) == f"to {EMAIL} [EM", cut


@pytest.mark.parametrize("api", STREAMS)
async def test_a_stream_that_breaks_at_any_byte_loses_no_text(api: str) -> None:
    text = "To [EMAIL_1][EMAIL_2] and [EMAIL_"
    stream = b"".join(STREAMS[api](text, 3))
    for end in every(range(len(stream)), 17):
        events = await masking()
        sent = await events.feed(stream[:end]) + await events.broken()
        received = deltas(stream[: stream.rfind(b"\n\n", 0, end) + 2])
        restored = {name: value.replace("[EMAIL_1]", EMAIL).replace("[EMAIL_2]", OTHER) for name, value in received.items()}
        assert deltas(sent) == restored, end
        assert await events.broken() == b""


@pytest.mark.parametrize("api", STREAMS)
async def test_inserted_events_are_numbered(api: str) -> None:
    sent = await run_events(Masker(MaskConfig()), b"".join(STREAMS[api]("to [EMAIL_", 4)), request=REQUEST)
    numbers = [event["sequence_number"] for event in read_events(sent) if "sequence_number" in event]
    assert numbers == list(range(len(numbers)))


async def test_no_event_of_a_response_has_an_empty_piece_while_its_text_is_held() -> None:
    for size in (1, 3, 400):
        events = b"".join(STREAMS["responses"]("to [EMAIL_1] and [EMAIL_", size))
        sent = read_events(await run_events(Masker(MaskConfig()), events, request=REQUEST))
        pieces = [event["delta"] for event in sent if event["type"] == "response.output_text.delta"]
        assert "" not in pieces
        assert "".join(pieces) == f"to {EMAIL} and [EMAIL_"
        assert [event["sequence_number"] for event in sent] == list(range(len(sent)))


ERRORS: tuple[dict[str, Any], ...] = (
    {"error": {"message": "overloaded"}}, {"type": "error", "error": {"message": "overloaded"}}, {"type": "error", "message": "overloaded"},
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
async def test_held_text_is_sent_before_an_error_event(error: dict[str, Any]) -> None:
    said = chunk([{"index": 0, "delta": {"content": "to [EMA"}, "finish_reason": None}])
    sent = read_events(await run_events(Masker(MaskConfig()), b"%bdata: %b\n\n" % (said, json.dumps(error).encode()), request=REQUEST))
    assert [event["choices"][0]["delta"]["content"] for event in sent[:2]] == ["to ", "[EMA"]
    assert sent[2:] == [error]


async def test_held_text_is_checked_when_a_stream_breaks_off() -> None:
    events = await masking(hook=DenyList(DenyConfig(words=("nightfall",))))
    await events.feed(chunk([{"index": 0, "delta": {"content": "so nightfall"}, "finish_reason": None}]))
    with pytest.raises(GatewayError) as refused:
        await events.broken()
    assert refused.value.code == "content_denied"
    assert await events.broken() == b""


async def test_the_events_before_a_refusal_are_kept_in_pieces_of_any_size() -> None:
    deny = DenyList(DenyConfig(words=("nightfall",)))
    said = [chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in ("one ", "two ", "nightfall", " three")]
    for ending in (FINISH, b""):
        stream = b"".join([*said[:3], *([said[3]] if ending else []), ending])
        for size in every(range(1, len(stream) + 1), 13):
            events, sent = await masking(hook=deny), b""
            try:
                for at in range(0, len(stream), size):
                    is_end = at + size >= len(stream)
                    sent += await (events.end(stream[at : at + size]) if is_end else events.feed(stream[at : at + size]))
                raise AssertionError("nothing was refused")
            except GatewayError:
                assert deltas(sent + await events.broken()) == {"choices[0].delta.content": "one two "}, size


async def test_other_fields_of_an_event_are_kept_for_every_cut_and_every_line_end() -> None:
    first, second = (chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in ("to [EMAIL", "_1]"))
    stream = b"id: 7\nretry: 30\n: comment\nevent: e\n" + first + b"retry: 5\n\nid: 8\n" + second + b"id: 9\ndata: [DONE]\n\n"
    wanted = None
    for mark in (b"", b"\xef\xbb\xbf"):
        for end in (b"\n", b"\r\n", b"\r"):
            given_bytes = mark + stream.replace(b"\n", end)
            for size in (*range(1, 12), len(given_bytes)):
                events = await masking()
                parts = [await events.feed(given_bytes[at : at + size]) for at in range(0, len(given_bytes), size)]
                sent = b"".join([*parts, await events.end()])
                wanted = wanted or sent
                assert sent == wanted, (end, size)
    assert wanted is not None
    assert deltas(wanted) == {"choices[0].delta.content": f"to {EMAIL}"}
    lines = [line for line in wanted.split(b"\n") if line and not line.startswith(b"data: {")]
    assert lines == [b"id: 7", b"retry: 30", b": comment", b"event: e", b"retry: 5", b"id: 8", b"id: 9", b"data: [DONE]"]


UNREADABLE = (
    b"data: text", b"data: [1]", b'data: "nightfall"', b"data: 1", b'data: {"a": nan}', b'data: {"a"', b"data: {}{}",
    b'data: {"a": "\xff"}',
    b"data: " + b'{"a":' * 3000 + b"1" + b"}" * 3000,
)  # fmt: skip


@pytest.mark.parametrize("unreadable", UNREADABLE)
async def test_an_event_that_no_hook_can_read_is_treated_as_the_hook_declares(unreadable: bytes) -> None:
    text = chunk([{"index": 0, "delta": {"content": "[EMAIL_1]"}, "finish_reason": None}])
    reports: list[str] = []
    events = await masking(reports=reports)
    with pytest.raises(GatewayError) as failed:
        await events.feed(text + b"event: e\n" + unreadable + b"\n\n" + text)
    assert deltas(await events.broken()) == {"choices[0].delta.content": EMAIL}, "the event before it is not lost"
    assert (failed.value.status, failed.value.code) == (502, "upstream_bad_response")
    assert len(reports) == 1
    is_open = await masking(failure="open", reports=reports)
    sent = await is_open.feed(text + b"event: e\n" + unreadable + b"\n\n" + unreadable + b"\n\n" + text) + await is_open.end()
    assert sent.count(unreadable) == 2
    assert deltas(sent.replace(unreadable, b"")) == {"choices[0].delta.content": EMAIL * 2}
    assert len(reports) == 2


async def test_comments_and_events_without_data_pass_as_they_are() -> None:
    events = await masking()
    given_bytes = b": keepalive\n\nid: 5\n\nevent: ping\ndata:\n\ndata\n\ndata: [DONE]\n\n"
    assert await events.feed(given_bytes) == given_bytes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "[EMAIL_1]", "content_block_delta", "a.delta"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from((
            "choices", "delta", "index", "content", "tool_calls", "function", "arguments", "type", "message", "text", "finish_reason",
            "function_call", "custom", "input", "tool_plan", "id", "logprobs", "sequence_number", "item_id", "thinking", "partial_json",
        )),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
KINDS = (
    "content-delta", "tool-plan-delta", "tool-call-delta", "content_block_delta", "content_block_stop", "a.delta", "a.done", "content-end",
)  # fmt: skip
SHAPES = st.one_of(
    st.dictionaries(st.sampled_from(("choices", "delta", "type", "index", "sequence_number")), JSON, max_size=4),
    st.builds(lambda delta: {"choices": [{"index": 0, "delta": delta}]}, JSON),
    st.builds(lambda index, call: {"choices": [{"index": index, "delta": {"tool_calls": [call], "content": "["}}]}, JSON, JSON),
    st.builds(lambda kind, delta, index: {"type": kind, "delta": delta, "index": index}, st.sampled_from(KINDS), JSON, JSON),
)  # fmt: skip


@given(st.lists(SHAPES, max_size=5))
@settings(max_examples=examples(1200), deadline=None)
async def test_no_object_breaks_a_stream(shapes: list[Any]) -> None:
    stream = b"".join(b"data: " + json.dumps(shape).encode() + b"\n\n" for shape in shapes)
    said = chunk([{"index": 7, "delta": {"content": "[EMAIL_1]"}, "finish_reason": None}])
    events = await masking()
    sent = await events.feed(stream + said) + await events.end()
    assert EMAIL.encode() in sent
    assert len(read_events(sent)) > len(shapes)
    for shape in shapes:
        slots_of(shape)


def test_an_event_is_bounded_and_read_once() -> None:
    framer = Framer()
    for _ in range(MAX_EVENT_BYTES // 4096):
        assert framer.feed(b"x" * 4096) == []
    with pytest.raises(GatewayError):
        framer.feed(b"x" * 4096)
    assert read_frame(b"id: 1\ndata: a\ndata:b\nevent:n").data == b"a\nb"
