"""A conversation of texts is translated as a whole, with the same result as message by message."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.dialect import Translator
from gateway.dialects.messages_api import conversation as of_messages
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.plain_messages import read_plain
from gateway.dialects.responses_api import conversation as of_responses
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from gateway.errors import BadRequest

ROLES = ("user", "assistant", "system", "developer", "tool", 1)
PART = {"type": "text", "text": "x"}
CONTENTS: tuple[Any, ...] = ("", "text", 'é "\\ud83d\\ude00"', None, 3, [], [PART], [{**PART, "type": "input_text"}])
MORE: tuple[dict[str, Any], ...] = ({}, {}, {"type": "message"}, {"type": "x"}, {"name": "n"}, {"cache_control": {"type": "ephemeral"}})


def message(role: Any, content: Any, more: dict[str, Any], content_first: bool) -> dict[str, Any]:
    """Return one message with its fields in one of two orders."""
    fields = [("role", role), ("content", content), *more.items()]
    return dict(reversed(fields) if content_first else fields)


MESSAGES = st.builds(message, st.sampled_from(ROLES), st.sampled_from(CONTENTS), st.sampled_from(MORE), st.booleans())
TEXTS = st.builds(message, st.sampled_from(ROLES[:3]), st.text(max_size=9), st.just({}), st.booleans())


def translated(translator: Translator, body: bytes) -> tuple[Any, ...]:
    """Return the complete result of the translation of a body."""
    try:
        chat = translator.request(body, strict=False)
    except BadRequest as error:
        return error.message, error.param, error.code
    names = [translator.param(f"messages[{index}]{rest}") for index in range(4) for rest in ("", ".content", ".content[0]", ".role")]
    refusal = translator.refusal
    return chat, translator.adjustments, refusal and (refusal.message, refusal.param, refusal.code), names


@given(st.one_of(st.lists(TEXTS, max_size=4), st.lists(MESSAGES, max_size=3)), st.booleans(), st.booleans())
def test_a_conversation_of_texts_is_translated_as_message_by_message(turns: list[Any], is_compact: bool, is_ascii: bool) -> None:
    form: dict[str, Any] = {"separators": (",", ":") if is_compact else None, "ensure_ascii": is_ascii}
    message_body = json.dumps({"model": "m", "max_tokens": 9, "system": "s", "messages": turns}, **form).encode()
    response_body = json.dumps({"model": "m", "instructions": "s", "input": turns}, **form).encode()
    at_once = translated(MessagesTranslator(), message_body), translated(ResponsesTranslator(), response_body)
    with pytest.MonkeyPatch.context() as patch:
        for module in (of_messages, of_responses):
            patch.setattr(module, "read_plain", lambda *_: None)
        assert (translated(MessagesTranslator(), message_body), translated(ResponsesTranslator(), response_body)) == at_once


def test_a_conversation_of_texts_is_recognized() -> None:
    turns = msgspec.Raw(json.dumps([{"content": "é", "role": "user"}, {"role": "assistant", "content": ""}]).encode())
    roles = frozenset({"user", "assistant"})
    plain = read_plain(turns, roles, frozenset({""}))
    assert plain is not None
    assert msgspec.json.encode(plain) == rb'[{"role":"user","content":"\u00e9"},{"role":"assistant","content":""}]'
    assert read_plain(turns, frozenset({"user"}), frozenset({""})) is None
