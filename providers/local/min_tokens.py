"""At least so many tokens from an engine that has no such parameter: an answer that may not end, then its continuation.

The first request ignores the end of the text for as many tokens as were asked for; the second goes on from what it said, which the
engine finds in its cache. A stop string still ends the text. Two requests, so the seed begins anew with the second; the same seed
still gives the same text.

No I/O here: `ask` yields bodies and is sent the answers' bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body, Chain
from providers.rules.engine import Rule, Work

MIN_TOKENS_MEMO = "local.least"
"""Memo: how many tokens the answer has at least."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class MinTokens(Rule, frozen=True):
    """`min_tokens` by a continuation, for one choice of plain text; dropped elsewhere. Comes after the rule on caps."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("min_tokens", "min_completion_tokens")

    def apply(self, work: Work) -> None:
        """Note it for the calls, and take it out of the body."""
        body = work.body
        for name in self.params:
            least = body.get(name)
            if name not in body:
                continue
            if least is None or least < 1:
                work.drop(name, "it takes at least 1")
            elif (body.get("n") or 1) > 1 or body.get("tools") or body.get("response_format"):
                work.drop(name, "only for one answer of plain text")
            else:
                cap = body.get("max_tokens")
                if cap is not None and least > cap:
                    work.report_lossy(name, "clamp", "the answer may not be longer than its cap", from_=least, to=cap)
                work.options.memo[MIN_TOKENS_MEMO] = least if cap is None else min(least, cap)
                body.pop(name)
                work.report(name, "enforce_locally", why="the answer goes on until it has as many tokens")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"support": "adjusted", "action": "enforce_locally"} for name in self.params}


def min_tokens_chain(body: Body, min_tokens: int) -> Chain:
    """The requests for an adapted body, and the whole answer."""
    cap = body.get("max_tokens")
    first = body.copy()
    first.set("ignore_eos", True)
    first.set("max_tokens", min_tokens if cap is None else min(min_tokens, cap))
    answer = yield first
    begun = _decode(answer)
    if begun["choices"][0].get("finish_reason") != "length" or (cap is not None and cap <= min_tokens):
        return answer
    rest = body.copy()
    said = begun["choices"][0]["message"]["content"]
    rest.set("messages", [*body.get("messages"), {"role": "assistant", "content": said}])
    if cap is not None:
        rest.set("max_tokens", cap - min_tokens)
    return _encode(_joined(begun, _decode((yield rest))))


def _joined(begun: dict[str, Any], ended: dict[str, Any]) -> dict[str, Any]:
    """The answer to both: texts and log-probabilities one after the other, the prompt counted once."""
    choice, rest = begun["choices"][0], ended["choices"][0]
    choice["message"]["content"] += rest["message"]["content"] or ""
    choice["finish_reason"] = rest.get("finish_reason")
    if choice.get("logprobs") and rest.get("logprobs"):
        choice["logprobs"]["content"] += rest["logprobs"]["content"]
    usage = begun["usage"]
    usage["completion_tokens"] += ended["usage"]["completion_tokens"]
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return begun
