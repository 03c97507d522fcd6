"""The previous response that a call continues: its items reach the translator, and a response of another owner is unknown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.call import Call
from gateway.config.responses import ResponsesConfig
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.dialects.table import MESSAGES, RESPONSES
from gateway.errors import BadRequest, NotFound
from gateway.keys.virtual_key import VirtualKey
from gateway.response.response_storage import ResponseStorage
from gateway.store.responses import Bounds, MemoryResponses

ID = "resp_" + "a" * 32
RECORD = b'{"response":{"id":"%b","output":[{"id":"o"}]},"items":[{"id":"i"}]}' % ID.encode()


def call(key: VirtualKey | None = None) -> Call:
    return Call("chat", "/v1/responses", RESPONSES, ResponsesTranslator(), key=key)


async def storage(max_body: int = 10_000) -> ResponseStorage:
    """Return a storage with one response, which belongs to the key `a`."""
    store = MemoryResponses()
    await store.save("a", ID, RECORD, Bounds(60.0, 1 << 20))
    return ResponseStorage(store, ResponsesConfig(), max_body)


def body(**members: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "input": "x", **members})


async def test_items_of_the_previous_response_reach_the_translator() -> None:
    made = call(VirtualKey("a"))
    wishes = await (await storage()).load_previous(made, body(previous_response_id=ID))
    assert wishes is not None
    assert isinstance(made.translator, ResponsesTranslator)
    assert made.translator.earlier == [msgspec.Raw(b'{"id":"i"}'), msgspec.Raw(b'{"id":"o"}')]


@pytest.mark.parametrize(("key", "id"), [("b", ID), (None, ID), ("a", ID.upper()), ("a", ID + "0"), ("a", "")])
async def test_response_of_another_owner_is_unknown(key: str | None, id: str) -> None:
    owner = VirtualKey(key) if key is not None else None
    with pytest.raises(BadRequest) as refused:
        await (await storage()).load_previous(call(owner), body(previous_response_id=id))
    assert refused.value.param == "previous_response_id"
    with pytest.raises(NotFound):
        await (await storage()).read(owner, id)


async def test_other_apis_and_bodies_without_wishes_ask_for_nothing() -> None:
    stored = await storage()
    messages = Call("chat", "/v1/messages", MESSAGES, MESSAGES.translator())
    assert await stored.load_previous(messages, body(previous_response_id=ID)) is None
    assert await stored.load_previous(call(), body(store=False)) is None


async def test_conversation_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="exceed 100 bytes"):
        await (await storage(100)).load_previous(call(VirtualKey("a")), body(previous_response_id=ID, input="x" * 80))
