"""Passed streams of Gemini and Ollama, lines of JSON, and blocks of the Messages API that begin with text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.config.hook import DenyConfig, MaskConfig
from gateway.errors import GatewayError
from gateway.hooks import other_apis
from gateway.hooks.api import Hook
from gateway.hooks.deny import DenyList
from gateway.hooks.frames import MAX_EVENT_BYTES, LineFramer
from gateway.hooks.load import loaded
from gateway.hooks.masker import Masker
from gateway.hooks.run import HookRun, HookSet, Pieces
from gateway.hooks.slots import fields
from gateway.hooks.stream import HookedEvents
from gateway.hooks.testing import FACTS
from gateway.metrics import Metrics
from providers.base import Body
from tests.hooks.echo import read_events

EMAIL = "ada@example.org"
TEXT, RESTORED = "to [EMAIL_1]. Bye", f"to {EMAIL}. Bye"


async def events_of(hook: Hook, *, is_lines: bool) -> HookedEvents:
    """Return the events of a call whose request contains an email address."""
    run: HookRun = HookSet([loaded(hook)], Metrics(), lambda line: None).begin(FACTS)
    await run.request([Body(json.dumps({"text": EMAIL}).encode())])
    return HookedEvents(run, Pieces(), holds_start=False, is_lines=is_lines)


async def passed(events: Sequence[Any], hook: Hook | None = None, *, is_lines: bool = False, size: int = 1 << 20) -> bytes:
    """Return the output of a hook for a stream of events that arrives in pieces of `size` bytes."""
    hooked = await events_of(hook or Masker(MaskConfig()), is_lines=is_lines)
    before, after = (b"", b"\n") if is_lines else (b"data: ", b"\n\n")
    stream = b"".join(before + json.dumps(event).encode() + after for event in events)
    out = [await hooked.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    return b"".join([*out, await hooked.end()])


def part(text: str, *, thought: bool = False) -> dict[str, Any]:
    """Return a part of a candidate of Gemini."""
    return {"text": text, **({"thought": True} if thought else {})}


def gemini(*parts: dict[str, Any], finish: str | None = None, index: int | None = None) -> dict[str, Any]:
    """Return an event of Gemini."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, **({"finishReason": finish} if finish else {})}
    return {
        "candidates": [{**candidate, **({"index": index} if index is not None else {})}],
        "usageMetadata": {"totalTokenCount": 3}, "modelVersion": "gemini-9",
    }  # fmt: skip


def said_by_gemini(stream: bytes, *, thought: bool = False, index: int = 0) -> str:
    """Return the text of a candidate, or its thoughts if `thought` is True."""
    return "".join(
        each["text"]
        for event in read_events(stream)
        for candidate in event["candidates"]
        for each in candidate["content"]["parts"]
        if bool(each.get("thought")) is thought and candidate.get("index", 0) == index
    )


async def test_mask_that_is_cut_between_events_of_gemini_is_restored() -> None:
    for cut in range(len(TEXT) + 1):
        for finish in (None, "STOP"):
            events = [gemini(part(TEXT[:cut])), gemini(part(TEXT[cut:]), finish=finish)]
            assert said_by_gemini(await passed(events)) == RESTORED, (cut, finish)


async def test_thoughts_and_candidates_of_gemini_are_texts_of_their_own() -> None:
    events = [
        gemini(part("why [EMA", thought=True)), gemini(part("IL_1] so", thought=True), part("to [EM")), gemini(part("AIL"), part("_1]")),
        gemini(part("two [EMAIL_", thought=False), index=1), gemini(part("1]"), index=1, finish="STOP"), gemini(part("!"), finish="STOP"),
    ]  # fmt: skip
    stream = await passed(events)
    assert said_by_gemini(stream, thought=True) == f"why {EMAIL} so"
    assert said_by_gemini(stream) == f"to {EMAIL}!"
    assert said_by_gemini(stream, index=1) == f"two {EMAIL}"


async def test_held_text_of_gemini_is_sent_at_the_end_of_a_stream_without_a_finish_reason() -> None:
    stream = await passed([gemini(part("to [EMAIL"))])
    assert said_by_gemini(stream) == "to [EMAIL"
    assert [event["modelVersion"] for event in read_events(stream)] == ["gemini-9"] * 2
    assert sum("usageMetadata" in event for event in read_events(stream)) == 1  # the usage is not repeated


async def test_denied_word_that_is_cut_is_found_in_each_format() -> None:
    deny = DenyList(DenyConfig(words=("project nightfall",)))
    ollama = [{"message": {"role": "assistant", "content": each}, "done": False} for each in ("project nig", "htfall")]
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "project nig"}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "htfall"}}
    for events, is_lines in (([gemini(part("project nig")), gemini(part("htfall"))], False), (ollama, True), ([start, delta], False)):
        with pytest.raises(GatewayError) as caught:
            await passed(events, deny, is_lines=is_lines)
        assert caught.value.code == "content_denied"


@pytest.mark.parametrize("place", ["message", "response"])
async def test_mask_that_is_cut_between_lines_of_ollama_is_restored(place: str) -> None:
    def line(text: str, *, done: bool = False) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if place == "message" else {"response": text}
        return {"model": "m", "created_at": "2026-11-29T00:00:00Z", **said, "done": done}

    for cut in range(len(TEXT) + 1):
        for size in (7, 1 << 20):
            stream = await passed([line(TEXT[:cut]), line(TEXT[cut:]), line("", done=True)], is_lines=True, size=size)
            lines = [json.loads(each) for each in stream.splitlines()]
            said = "".join(each["message"]["content"] if place == "message" else each["response"] for each in lines)
            assert said == RESTORED, (cut, size)
            assert [each["done"] for each in lines][-1] is True
            assert {each["model"] for each in lines} == {"m"}


async def test_lines_of_other_services_are_read_one_by_one() -> None:
    stream = await passed([{"log": "to [EMAIL_1]"}, {"log": "nothing"}], is_lines=True)
    assert [json.loads(each) for each in stream.splitlines()] == [{"log": f"to {EMAIL}"}, {"log": "nothing"}]


async def test_line_without_json_is_unreadable() -> None:
    hooked = await events_of(Masker(MaskConfig()), is_lines=True)
    assert await hooked.feed(b'\r\n{"a": "b"}\r\n') == b'{"a":"b"}\n'
    with pytest.raises(GatewayError):
        await hooked.feed(b"plain [EMAIL_1]\n")


async def test_last_line_may_lack_its_end_and_endless_lines_are_errors() -> None:
    hooked = await events_of(Masker(MaskConfig()), is_lines=True)
    assert await hooked.feed(b'{"a": "[EMAIL_1]"}') == b""
    assert json.loads(await hooked.end()) == {"a": EMAIL}
    with pytest.raises(GatewayError):
        LineFramer().feed(b"x" * (MAX_EVENT_BYTES + 1))


async def test_block_of_the_messages_api_may_begin_with_a_text() -> None:
    for kind, name in (("text", "text"), ("thinking", "thinking")):
        for cut in range(len(TEXT) + 1):
            start = {"type": "content_block_start", "index": 0, "content_block": {"type": kind, name: TEXT[:cut]}}
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", name: TEXT[cut:]}}
            stream = await passed([start, delta, {"type": "content_block_stop", "index": 0}])
            found = read_events(stream)
            said = "".join({**event.get("content_block", {}), **event.get("delta", {})}.get(name, "") for event in found)
            assert said == RESTORED, (kind, cut)
            assert [event["type"] for event in found].count("content_block_start") == 1


ODD = [{"candidates": [1, {}, {"content": 5}, {"content": {"parts": [3, {"text": 4}]}}]}, {"done": 1}, {"done": False}]


@pytest.mark.parametrize("shape", ODD)
def test_odd_events_have_no_text(shape: dict[str, Any]) -> None:
    assert other_apis.slots_of(shape) == []
    assert other_apis.ended_groups(shape) == []


def test_field_that_is_not_an_object_has_no_fields() -> None:
    assert fields({"a": {"b": {"c": 1}}}, "a", "b") == {"c": 1}
    assert fields({"a": [1]}, "a", "b") == {}


async def test_held_beginning_of_a_block_is_sent_in_an_event_of_its_own() -> None:
    hooked = await events_of(Masker(MaskConfig()), is_lines=False)
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "to [EMAIL"}}
    stream = await hooked.feed(b"event: content_block_start\ndata: " + json.dumps(start).encode() + b"\n\n")
    stream += await hooked.feed(b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 0}\n\n')
    names = [line for line in stream.split(b"\n") if line.startswith(b"event")]
    assert names == [b"event: content_block_start", b"event: content_block_delta", b"event: content_block_stop"]
    assert read_events(stream)[1]["delta"] == {"type": "text_delta", "text": "[EMAIL"}
