"""The number of functions that the translation of a request calls. The translation is a part of every call, even of a native one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.dialect import Translator
from gateway.dialects.messages_api.dialect import MessagesTranslator
from gateway.dialects.responses_api.dialect import ResponsesTranslator
from tests.support.calls import calls_of

TURNS = [{"role": ("user", "assistant")[number % 2], "content": f"Turn {number}."} for number in range(5)]
BODIES: dict[type[Translator], dict[str, Any]] = {
    ResponsesTranslator: {"model": "m", "instructions": "Be brief.", "input": TURNS, "max_output_tokens": 99, "store": False},
    MessagesTranslator: {"model": "m", "system": "Be brief.", "messages": TURNS, "max_tokens": 99},
}
MOST = {ResponsesTranslator: 130, MessagesTranslator: 115}
"""Maximum number of functions. Lower it when fewer are called."""


@pytest.mark.parametrize("kind", BODIES)
def test_translation_of_plain_turns_takes_few_steps(kind: type[Translator]) -> None:
    body = json.dumps(BODIES[kind]).encode()
    kind().request(body, strict=False)  # objects that are made once, such as decoders, are not counted
    translator = kind()
    assert calls_of(lambda: translator.request(body, strict=False)) <= MOST[kind]
