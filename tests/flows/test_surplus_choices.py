"""An upstream that streams more choices than the caller requested."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import sse
from tests.faults.upstream_server import FIN, FaultUpstream
from tests.flows.conftest import RECEIPT, events, post_as, post_chat, receipt_of, serving
from tests.support.apis import ALL_CONVERSATIONS, Api

NOTE = {"action": "warn", "why": "the upstream sent more choices than were requested; they are left out"}


def chunk(index: int, content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of one choice."""
    delta = {} if content is None else {"content": content}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "mock", "choices": [choice], **more}


SURPLUS = [chunk(0, "one "), chunk(1, "other "), chunk(0, "two "), chunk(1, "other "), chunk(0, "three"), chunk(0, finish="stop")]
USAGE = chunk(1, "other", usage={"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9})


@pytest.mark.parametrize("api", ALL_CONVERSATIONS, ids=[api.name for api in ALL_CONVERSATIONS])
async def test_a_choice_that_was_not_requested_need_not_finish(up: FaultUpstream, client: httpx.AsyncClient, api: Api) -> None:
    up.on("/v1/chat/completions", sse(*SURPLUS, USAGE, b"[DONE]"))
    async with serving(up) as gateway:
        told = api.read(await post_as(api, client, gateway, headers=RECEIPT, stream=True, stream_options={"include_usage": True}))
    assert (told.text, told.stop, told.error) == ("one two three", "stop", None)
    assert told.tokens is not None
    assert told.tokens[:2] == (3, 6), "the upstream bills the other choice as well"
    assert told.receipt is not None
    assert NOTE.items() <= told.receipt["adjustments"][-1].items()


@pytest.mark.parametrize("ending", [[b"[DONE]"], []])
async def test_choices_that_were_not_requested_are_left_out(up: FaultUpstream, client: httpx.AsyncClient, ending: list[bytes]) -> None:
    both = {**chunk(0, "!"), "choices": [*chunk(1, "x")["choices"], *chunk(0, "!")["choices"]]}
    up.on("/v1/chat/completions", sse(*SURPLUS[:-1], both, chunk(1, finish="stop"), SURPLUS[-1], *ending, ending=FIN))
    async with serving(up) as gateway:
        answer = await post_chat(client, gateway, stream=True)
    chunks = [json.loads(event) for event in events(answer.text)[:-1]]
    assert [choice["index"] for each in chunks for choice in each["choices"]] == [0] * 5
    assert all(each["choices"] for each in chunks)
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "one two three!"


@pytest.mark.parametrize("more", [{"n": 2}, {"best_of": 2}])
async def test_requested_choices_pass_and_must_finish(up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any]) -> None:
    async with serving(up) as gateway:
        up.once(sse(*SURPLUS, chunk(1, finish="stop"), b"[DONE]"))
        answer = await post_chat(client, gateway, stream=True, headers=RECEIPT, **more)
        assert answer.text.count("other ") == 2
        assert "n" not in {note["param"] for note in receipt_of(answer)["adjustments"]}
        up.once(sse(*SURPLUS, b"[DONE]"))
        assert "without a finish reason" in (await post_chat(client, gateway, stream=True, **more)).text
