"""Histories in native requests: valid ones keep their bytes, all others become valid without losing anything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Body
from providers.native_history import MAX_CALL_ID, has_long_ids, repair_messages, valid_call_id, without_gaps
from tests.native.anthropic_fake import problem_of_history

IDS = st.sampled_from(["toolu_1", "toolu_2", "call.1", "call:1", "call_1", "f:0", "x" * 64, "x" * 65, "é", "a\n"])
TEXTS = st.sampled_from(["", " ", "\n", "Hm", " Hm", '"tool_use"'])


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return turns of tool calls and answers, each call with its result."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
    for _ in range(draw(st.integers(0, 4))):
        ids = draw(st.lists(IDS, unique=True, max_size=3))
        said = [{"type": "text", "text": text} for text in draw(st.lists(TEXTS, max_size=2))]
        calls = [{"type": "tool_use", "id": id, "name": "f", "input": {"id": id}} for id in ids]
        plain = draw(TEXTS) if not calls and draw(st.booleans()) else [*said, *calls]
        results = [{"type": "tool_result", "tool_use_id": id, "content": id} for id in draw(st.permutations(ids))]
        turns += [{"role": "assistant", "content": plain}, {"role": "user", "content": results or "more"}]
    return turns


@given(histories())
def test_every_history_becomes_one_that_anthropic_accepts(turns: list[dict[str, Any]]) -> None:
    source = json.dumps({"messages": turns}).encode()
    body = Body(source)
    made = repair_messages(body, strict=True)
    assert bool(made) == (problem_of_history(turns) is not None)
    if not made:
        assert body.encode() == source
        return
    body.set("messages", without_gaps(body.get("messages")))
    sent = json.loads(body.encode())["messages"]
    assert problem_of_history(sent) is None
    called = {block["id"]: block["input"]["id"] for message in sent for block in message["content"] if "input" in block}
    for message in sent:
        for block in message["content"]:
            if "tool_use_id" in block:
                assert called[block["tool_use_id"]] == block["content"]
    texts = [[block.get("text", "") for block in turn["content"]] if type(turn["content"]) is list else [turn["content"]] for turn in turns]
    kept = [[block.get("text", "") for block in turn["content"]] if type(turn["content"]) is list else [turn["content"]] for turn in sent]
    assert [text for one in texts for text in one if text.strip()] == [text for one in kept for text in one if text.strip()]


@pytest.mark.parametrize(
    "messages", [None, 5, [5], [{"role": "assistant"}], [{"role": "assistant", "content": [{"type": "tool_use", "id": 5}]}]]
)
def test_request_of_another_form_is_left_to_the_vendor(messages: Any) -> None:
    source = json.dumps({"messages": messages, "x": ""}).encode()
    body = Body(source)
    assert repair_messages(body, strict=False) == []
    assert body.encode() == source


def test_only_long_call_ids_change_and_different_ones_stay_different() -> None:
    ids = ["", "a", "b" * MAX_CALL_ID, "b" * (MAX_CALL_ID + 1), "c" * (MAX_CALL_ID + 1), "é" * 100]
    new = [valid_call_id(id) for id in ids]
    assert new[:3] == ids[:3]
    assert all(len(id) <= MAX_CALL_ID for id in new)
    assert len(set(new)) == len(ids)
    for id in ids:
        items = json.dumps([{"role": "user", "content": "x"}, {"type": "function_call", "call_id": id}]).encode()
        assert has_long_ids(items) == (len(id) > MAX_CALL_ID)
    assert not has_long_ids(b'[{"call_id":5}]')
