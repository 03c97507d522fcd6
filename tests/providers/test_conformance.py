"""Every provider conforms, and the checks notice one that does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import providers
from providers.base import Adjustment, Answer, Body, Failure, Options, Target, WireRequest
from providers.conformance import CREDENTIAL, problems
from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.engine import Takes

SETTINGS: dict[str, dict[str, Any]] = {"azure": {"api": "classic", "api_version": "2024-10-21"}}


@pytest.mark.parametrize("kind", sorted(providers.OURS))
def test_the_provider_conforms(kind: str) -> None:
    assert problems(providers.get(kind), options=SETTINGS.get(kind)) == []


class Careless(OpenAICompatible):
    """Does everything wrong that the checks look for."""

    def __init__(self) -> None:
        wire = Wire(label="careless", base_url="http://careless.invalid/v1")
        super().__init__("careless", wire, (Takes("model messages stream"),))

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        for name in set(body) - {"model", "messages", "stream"}:
            body.pop(name)
        return [Adjustment("x", "mangle"), Adjustment("unheard_of", "drop")]  # type: ignore[arg-type]

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        body.set("api_key", target.credential)
        return WireRequest("chat", [("Host", "x"), ("host", "a\nb")], body.encode())

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        return Answer(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        if not body:
            raise RuntimeError
        return Failure("odd", body.decode("latin-1") or "m", status, code=5)  # type: ignore[arg-type]

    def capabilities(self, model: str) -> Mapping[str, Any]:
        return {"messages": {"support": "maybe", "set": object()}}


@pytest.mark.parametrize(
    "words",
    [
        "is not absolute",
        "must be lower case",
        "belong to the transport",
        "has a line break",
        "the credential is outside the headers",
        "not the target's",
        "accepted in strict mode",
        "unknown action",
        "takes it for an answer",
        "raises RuntimeError",
        "unknown kind",
        "the credential is in the message",
        "is no text",
        "are not JSON",
        "has no support",
    ],
)
def test_a_careless_provider_is_told(words: str) -> None:
    assert any(words in problem for problem in problems(_careless()))
    assert CREDENTIAL not in words


def _careless() -> Careless:
    return Careless()
