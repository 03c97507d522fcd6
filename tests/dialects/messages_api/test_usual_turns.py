"""The turns of an agent are translated in few steps, with the same result as field by field."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from gateway.dialects.messages_api import conversation
from gateway.dialects.messages_api.request import translate_request
from gateway.dialects.messages_api.usual_turns import read_turns, translate_turn
from gateway.errors import BadRequest
from gateway.http.json_body import parse_body
from providers.base import Body
from tests.dialects.messages_api.test_mutations import mutated
from tests.support.search import examples

MARK = {"cache_control": {"type": "ephemeral"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
THINKING = {"type": "thinking", "thinking": "Well.", "signature": "sig"}


def use(id: str, **more: Any) -> dict[str, Any]:
    """Return a tool call."""
    return {"type": "tool_use", "id": id, "name": "read", "input": {"path": "ä.py"}, **more}


def result(id: str, content: Any = "done", **more: Any) -> dict[str, Any]:
    """Return a tool result."""
    return {"type": "tool_result", "tool_use_id": id, "content": content, **more}


def user(*content: Any) -> dict[str, Any]:
    """Return a user's turn."""
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    """Return an assistant's turn."""
    return {"role": "assistant", "content": list(content)}


def text(value: str, **more: Any) -> dict[str, Any]:
    """Return a text block."""
    return {"type": "text", "text": value, **more}


USUAL = [
    {"role": "user", "content": "Fix \u00e9 it."},
    assistant(text("I look."), use("a"), use("b", **MARK)),
    user(result("a"), result("b", [text("one"), text("two", **MARK)], is_error=True), text("Go on.", **MARK)),
    assistant(use("c", cache_control=None)),
    user(result("c", [], is_error=False, **MARK)),
    assistant(text("Two"), text("texts", **MARK)),
    user(result("d", [IMAGE]), result("e", None, is_error=None)),
    assistant(),
    user(),
    {"role": "assistant", "content": "Done."},
    {"role": "user", "content": [text("Thanks.")]},
]
"""Turns of an agent."""
OTHER = [
    {"role": "system", "content": [text("Be brief.")]},
    assistant(THINKING, text("So."), use("f")),
    user(text("First"), result("f")),
    assistant(use("g", **MARK), use("h")),
    assistant(use("i"), text("Late")),
    user(IMAGE),
    user(result("j", caller={"type": "direct"})),
    user({"type": "unknown"}, result("k")),
    {"role": "user", "content": "more", "name": "n"},
]
"""Turns that are translated field by field."""
Outcome = tuple[Any, ...]


def outcome(source: bytes, *, strict: bool) -> Outcome:
    """Return the translation of a request, or its error."""
    try:
        parse_body(source)
        found = translate_request(source, strict=strict)
    except BadRequest as error:
        return type(error), str(error), error.param, error.code
    errors = [error and (str(error), error.param, error.code) for error in (found.loss, found.refusal)]
    return found.body, found.adjustments, found.origins, found.file_addresses, found.stops, found.model, errors


def test_the_result_is_that_of_the_translation_field_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    random, refused = Random(11), 0
    sources = []
    for _ in range(examples(3000)):
        turns = random.choices(USUAL, k=random.randint(1, 5)) + random.choices(OTHER, k=random.choice((0, 0, 1)))
        random.shuffle(turns)
        whole = {"model": "m", "max_tokens": 5, "messages": turns}
        whole = mutated(whole, random) if random.random() < 0.7 else whole
        source = json.dumps(whole, ensure_ascii=random.random() < 0.5, indent=random.choice([None, 1]))
        sources.append((source.encode(errors="replace"), random.random() < 0.3))
    quick = [outcome(source, strict=strict) for source, strict in sources]
    monkeypatch.setattr(conversation, "translate_turn", lambda turn, param, changes: None)
    monkeypatch.setattr(conversation, "read_turns", lambda raw: None)
    for (source, strict), found in zip(sources, quick, strict=True):
        assert found == outcome(source, strict=strict), source
        refused += found[0] is BadRequest
    assert len(sources) * 0.1 < refused < len(sources) * 0.7


@pytest.mark.parametrize("turns", [USUAL[at : at + 1] for at in range(len(USUAL))])
def test_a_usual_turn_is_recognized(turns: list[Any]) -> None:
    read = read_turns(Body(json.dumps({"messages": turns}).encode())._raw["messages"])
    assert read is not None
    assert translate_turn(read[0], "messages[0]", conversation.Changes(strict=False)) is not None
