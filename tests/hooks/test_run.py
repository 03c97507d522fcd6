"""The run of hooks for one call: the texts they get, their order, and the changes that are noted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import BadRequest, Unavailable
from gateway.hooks.api import Change, Chunk, Emit, Hook, Refuse, Request, Settled
from gateway.hooks.events import ended_groups, slots_of
from gateway.hooks.load import loaded
from gateway.hooks.run import HookRun, HookSet, Pieces
from gateway.hooks.stream import HookedEvents
from gateway.hooks.testing import FACTS, HookTestError, check_hook, run_events, run_request
from gateway.hooks.walk import has_token_ids, leaves, replaced
from gateway.metrics import Metrics
from providers.base import Body
from tests.hooks.echo import chunk


class Wrap(Hook):
    """Writes a letter at both ends of each text. It holds back a text of an answer until its end."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.seen: list[str] = []

    def request(self, request: Request) -> Change:
        """Wrap every text."""
        self.seen += [each.text for each in request.texts]
        return Change({each.path: f"{self.letter}{each.text}{self.letter}" for each in request.texts}, "wrapped")

    def chunk(self, chunk: Chunk) -> Emit:
        """Wrap the whole text at its end."""
        return Emit(f"{self.letter}{chunk.text}{self.letter}", why="wrapped") if chunk.is_last else Emit("", chunk.text)


class Both(Hook):
    """Returns a given result."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def request(self, request: Request) -> Any:
        """Return the result."""
        return self.result


def run_of(*hooks: Hook) -> HookRun:
    """Return the run of hooks for a call."""
    return HookSet([loaded(hook, f"h{at}") for at, hook in enumerate(hooks)], Metrics(), lambda line: None).begin(FACTS)


async def test_hooks_run_in_order_for_the_request_and_in_reverse_for_the_answer() -> None:
    run = run_of(Wrap("a"), Wrap("b"))
    body = Body(b'{"model":"m","prompt":"x"}')
    await run.request([body])
    assert body.get("prompt") == "baxab"
    pieces = Pieces()
    first = await run.piece("c", "text", "y", is_last=False, pieces=pieces)
    assert first + await run.piece("c", "text", "", is_last=True, pieces=pieces) == "abyba"
    assert [(each.param, each.action, each.why) for each in run.adjustments] == [
        ("prompt", "replace", "hook 'h0': wrapped"), ("prompt", "replace", "hook 'h1': wrapped"),
    ]  # fmt: skip
    assert [each.why for each in pieces.notes] == ["hook 'h1': wrapped", "hook 'h0': wrapped"]


async def test_a_text_that_both_forms_of_a_request_have_is_seen_once() -> None:
    hook = Wrap("a")
    run = run_of(hook)
    source, chat = Body(b'{"model":"m","input":"x"}'), Body(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    await run.request([source, chat])
    assert hook.seen == ["x"]
    assert (source.get("input"), chat.get("messages")[0]["content"]) == ("axa", "axa")
    assert [each.param for each in run.adjustments] == ["input"]
    await run.request([chat], is_noted=False)
    assert hook.seen == ["x"]


async def test_each_place_of_a_changed_text_is_noted() -> None:
    run = run_of(Wrap("a"))
    await run.request([Body(b'{"prompt":"x","suffix":"x"}')])
    assert [each.param for each in run.adjustments] == ["prompt", "suffix"]


@pytest.mark.parametrize("result", ["text", Emit("x"), Refuse("", status=400), Refuse("no", status=500), 0])
async def test_a_result_of_the_wrong_type_is_a_failure(result: Any) -> None:
    with pytest.raises(Unavailable) as failed:
        await run_of(Both(result)).request([Body(b'{"prompt":"x"}')])
    assert failed.value.code == "hook_failed"


async def test_a_refusal_has_the_status_and_code_of_the_hook() -> None:
    with pytest.raises(BadRequest) as refused:
        await run_of(Both(Refuse("no", "mine", 451))).request([Body(b'{"prompt":"x"}')])
    assert (refused.value.status, refused.value.code, refused.value.message) == (451, "mine", "no")


class Bad(Hook):
    """Decides on single pieces, so that its answer depends on their size."""

    def chunk(self, chunk: Chunk) -> Emit:
        """Remove pieces of one character."""
        return Emit("" if len(chunk.text) == 1 else chunk.text)


class Silent(Hook):
    """Overrides nothing."""


class Settling(Hook):
    """Fails at the end of a call without a target."""

    def settled(self, settled: Settled) -> None:
        """Read the target."""
        assert settled.target is not None


@pytest.mark.parametrize("hook", [Bad(), Silent(), Settling(), Both("text")])
async def test_the_conformance_test_finds_a_hook_that_breaks_a_rule(hook: Hook) -> None:
    with pytest.raises(HookTestError):
        await check_hook(hook)


async def test_the_conformance_test_accepts_a_hook_that_keeps_the_rules() -> None:
    await check_hook(Wrap("a"))


async def test_names_and_numbers_in_the_arguments_of_a_tool_are_texts() -> None:
    arguments = json.dumps({"ada@example.org": 4111111111111111, "n": 5})
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}
    request = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    found = {leaf.text for leaf in leaves(request)}
    assert {"ada@example.org", "4111111111111111", "t", "f", "n"} == found - {"function"}
    changed = replaced(request, lambda text: {"ada@example.org": "[E]", "4111111111111111": "[C]"}.get(text, text))
    assert json.loads(changed["messages"][0]["tool_calls"][0]["function"]["arguments"]) == {"[E]": "[C]", "n": 5}
    assert replaced(request, lambda text: text) is request


def test_lists_of_token_ids_are_recognized() -> None:
    assert [has_token_ids(value) for value in ([1], [[1]], ["a"], [], "1", [[]])] == [True, True, False, False, False, False]


async def test_log_probabilities_are_removed_if_a_hook_follows_the_answer() -> None:
    body = b'{"choices":[{"index":0,"message":{"content":"x"},"logprobs":{"content":[{"token":"x"}]}}]}'
    answer = json.loads(await run_of(Wrap("a")).answer(body, Pieces()))
    assert answer["choices"][0] == {"index": 0, "message": {"content": "axa"}, "logprobs": None}
    assert await run_of(Both(None)).answer(body, Pieces()) is body


async def test_held_text_is_sent_before_the_event_that_ends_it() -> None:
    given = [
        chunk([{"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}]),
        chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk([], usage={"total_tokens": 1}), b"data: [DONE]\n\n",
    ]  # fmt: skip
    sent = (await run_events(Wrap("a"), b"".join(given), size=1)).split(b"\n\n")
    texts = [json.loads(event[6:])["choices"] for event in sent if event.startswith(b"data: {")]
    assert [choice["delta"].get("content") for choices in texts for choice in choices] == ["", "axa", None]
    assert sent[-2] == b"data: [DONE]"


async def test_events_before_the_first_text_are_held() -> None:
    events = HookedEvents(run_of(Wrap("a")), Pieces())
    opened = chunk([{"index": 0, "delta": {"role": "assistant", "content": "x"}, "finish_reason": None}])
    assert await events.feed(opened) == b""
    assert b"axa" in await events.feed(chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))


def test_an_event_without_text_has_no_pieces() -> None:
    for event in ({}, {"type": "ping"}, {"choices": None}, {"choices": [None]}, {"type": 1}, {"type": "content_block_delta", "delta": 1}):
        assert slots_of(event) == []
        assert ended_groups(event) == []


async def test_a_request_without_texts_is_not_shown_to_hooks() -> None:
    hook = Wrap("a")
    assert await run_request(hook, {"model": "m", "n": 1}) == {"model": "m", "n": 1}
    assert hook.seen == []
