"""Every provider passes the conformance checks, and the checks report each violation of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import providers
from providers.base import Adjustment, Answer, Body, Chain, Failure, Options, StreamDecoder, Target, WireRequest
from providers.conformance import problems
from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.rule import Accepts
from tests.support.each import each

SETTINGS: dict[str, dict[str, Any]] = {"azure": {"api": "classic", "api_version": "2024-10-21"}}


@each("kind", sorted(providers.OURS))
def test_our_providers_pass_all_conformance_checks(kind: str) -> None:
    assert problems(providers.get(kind), options=SETTINGS.get(kind)) == []


class Careless(OpenAICompatible):
    """Violates every rule of the checks."""

    always_streams = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        wire = Wire(label="careless", base_url="http://careless.invalid/v1")
        super().__init__("careless", wire, (Accepts("model messages stream"),))
        self.operations = frozenset({"chat", "painting"})  # type: ignore[arg-type]
        self.caller_headers = ("X-Upper",)
        self.prefill = "yes"  # type: ignore[assignment]
        self.probabilities = 1  # type: ignore[assignment]

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        for name in set(body) - {"model", "messages", "stream"}:
            body.pop(name)
        return [Adjustment("x", "mangle"), Adjustment("unheard_of", "drop")]  # type: ignore[arg-type]

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        body.set("api_key", target.credential)
        return WireRequest("chat", [("Host", "x"), ("host", "a\nb")], body.encode())

    def probe_headers(self, target: Target) -> list[tuple[str, str]]:
        return [("host", "x")]

    def chained(self, body: Body, options: Options) -> Chain | None:
        return [body]  # type: ignore[return-value]

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        return object()  # type: ignore[return-value]

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        return Answer(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        if not body:
            raise RuntimeError
        return Failure("odd", body.decode("latin-1") or "m", status, code=5)  # type: ignore[arg-type]

    def capabilities(self, model: str) -> Mapping[str, Any]:
        return {"messages": {"support": "maybe", "set": object()}}


@each(
    "words",
    [
        "an unknown operation",
        "caller_headers must be",
        "always_streams must be",
        "prefill must be",
        "probabilities must be",
        "probe_headers: host, content-length",
        "chained must return",
        "a decoder needs a method end()",
        "is not absolute",
        "must be lower case",
        "belong to the transport",
        "has a line break",
        "the credential is outside the headers",
        "not the target's",
        "accepted in strict mode",
        "unknown action",
        "accepts a body that is not an answer",
        "raises RuntimeError",
        "unknown kind",
        "the credential is in the message",
        "is not a string",
        "cannot be encoded as JSON",
        "has no valid support",
    ],
)
def test_a_broken_contract_is_reported(words: str) -> None:
    result = problems(Careless())
    assert any(words in problem for problem in result), result
