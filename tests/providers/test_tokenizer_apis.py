"""Requests for tokens: each has the server's address, and the credential and headers of a chat call."""

from __future__ import annotations

import json
from typing import Any

import pytest

import providers
from providers.base import Body, Target
from providers.tokenizer_apis import TOKENIZER_APIS, Asked, LlamaCpp, Tokens


def target(kind: str, base_url: str) -> Target:
    """Return a target with a credential."""
    return Target("up/m", "up", providers.get(kind), "m", base_url, credential="sk-1", headers=(("x-own", "1"),))


@pytest.mark.parametrize("kind", sorted(TOKENIZER_APIS))
@pytest.mark.parametrize(("base_url", "root"), [("http://h/v1", ""), ("http://h/a/v1", "/a"), ("http://h/b", "/b")])
def test_addresses_are_below_the_root_of_the_server(kind: str, base_url: str, root: str) -> None:
    api, body, place = TOKENIZER_APIS[kind], Body(b'{"model":"m","messages":[]}'), target(kind, base_url)
    first = next(api.tokenize(Asked("a"), body, place))
    assert first.path == root + "/tokenize"
    assert ("authorization", "Bearer sk-1") in first.headers
    assert ("x-own", "1") in first.headers
    assert api.detokenize([1], body, place).path == root + "/detokenize"
    assert body.encode() == b'{"model":"m","messages":[]}'


def test_pieces_that_are_not_text_are_bytes() -> None:
    steps = LlamaCpp().tokenize(Asked("é", wants_texts=True), Body(b'{"model":"m"}'), target("llamacpp", "http://h/v1"))
    sent: dict[str, Any] = json.loads(next(steps).body)
    assert sent == {"content": "é", "add_special": True, "parse_special": False, "with_pieces": True}
    with pytest.raises(StopIteration) as end:
        steps.send(b'{"tokens":[{"id":1,"piece":"a"},{"id":2,"piece":[195]}]}')
    assert end.value.value == Tokens([1, 2], ["a", "\ufffd"])
