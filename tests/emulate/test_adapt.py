"""A body adapted to one target: rules, JSON mode and token probabilities."""

from __future__ import annotations

import pytest

from gateway.emulate import logits
from gateway.emulate.adapt import adapt_body
from gateway.errors import BadRequest
from providers.base import Body
from tests.support.attempts import target_named
from tests.support.each import each

MESSAGES = b'"model":"m","messages":[{"role":"user","content":"hi"}]'


def test_chat_gets_the_rules_of_its_provider() -> None:
    adapted = adapt_body(Body(b"{" + MESSAGES + b"}"), target_named("a/x"), "chat", strict=False)
    assert (adapted.logits_request, adapted.json_validator) == (None, None)
    assert adapted.options.operation == "chat"


def test_json_mode_has_a_validator() -> None:
    body = Body(b"{" + MESSAGES + b',"response_format":{"type":"json_object"}}')
    assert adapt_body(body, target_named("a/x"), "chat", strict=False).json_validator is not None


def test_probabilities_become_a_chat_completion_of_one_token() -> None:
    body = Body(b"{" + MESSAGES + b',"top_k":3}')
    adapted = adapt_body(body, target_named("a/x"), "logits", strict=False)
    assert adapted.logits_request == logits.LogitsRequest(3, None)
    assert (adapted.body.get("logprobs"), adapted.body.get("top_logprobs")) == (True, 3)


@each("raw", [b'"top_k":0', b'"top_k":"3"', b'"filter_vocabulary":[]', b'"stream":true'])
def test_invalid_request_for_probabilities_is_rejected(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        logits.read_request(Body(b"{" + MESSAGES + b"," + raw + b"}"))


def test_entries_that_an_answer_does_not_list_are_unknown_and_not_invented() -> None:
    listed = b'{"choices":[{"logprobs":{"content":[{"top_logprobs":[{"token":"a","logprob":0.0}]}]}}]}'
    answer, notes = logits.from_chat(listed, logits.LogitsRequest(None, ["a", "b"]))
    assert answer == b'{"logits":{"a":1.0},"emulated":true,"unknown":["b"]}'
    assert [note.action for note in notes] == ["enforce_locally"]
