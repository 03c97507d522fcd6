"""`min_tokens` for an engine without such a parameter: one answer that may not end early, then its continuation.

The first request ignores the end of the text for `min_tokens` tokens. The second one continues the answer, which the engine
finds in its cache. A stop string still ends the text. The seed applies to each request, so the same seed still produces
the same text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body, Chain
from providers.rules.rule import Rule, Work

MIN_TOKENS_MEMO = "local.least"
"""Key of `Options.memo`: the minimum number of tokens of the answer."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class MinTokens(Rule, frozen=True):
    """Honours `min_tokens` of plain text by continuation, else drops it. Comes after OutputCap, before SlotChoices."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("min_tokens", "min_completion_tokens")

    def apply(self, work: Work) -> None:
        """Move the parameter from the body to the memo."""
        body = work.body
        for name in self.params:
            least = body.get(name)
            if name not in body:
                continue
            if least is None or least < 1:
                work.drop(name, "must be at least 1")
            elif body.get("tools") or body.get("response_format"):
                work.drop(name, "only supported for plain text")
            else:
                cap = body.get("max_tokens")
                if cap is not None and least > cap:
                    work.report_lossy(name, "clamp", "must not exceed max_tokens", from_=least, to=cap)
                work.options.memo[MIN_TOKENS_MEMO] = least if cap is None else min(least, cap)
                body.pop(name)
                work.report(name, "enforce_locally", why="the answer is continued until it has enough tokens")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"support": "adjusted", "action": "enforce_locally"} for name in self.params}


def min_tokens_chain(body: Body, min_tokens: int) -> Chain:
    """Yield the requests for an adapted body. Return the combined answer."""
    cap = body.get("max_tokens")
    first = body.copy()
    first.set("ignore_eos", True)
    first.set("max_tokens", min_tokens if cap is None else min(min_tokens, cap))
    answer = yield first
    first_answer = _decode(answer)
    if first_answer["choices"][0].get("finish_reason") != "length" or (cap is not None and cap <= min_tokens):
        return answer
    rest = body.copy()
    text = first_answer["choices"][0]["message"]["content"]
    rest.set("messages", [*body.get("messages"), {"role": "assistant", "content": text}])
    if cap is not None:
        rest.set("max_tokens", cap - min_tokens)
    return _encode(_joined(first_answer, _decode((yield rest))))


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Combine both answers: texts and log-probabilities are joined, the prompt is counted once."""
    choice, rest = first["choices"][0], second["choices"][0]
    choice["message"]["content"] += rest["message"]["content"] or ""
    choice["finish_reason"] = rest.get("finish_reason")
    if choice.get("logprobs") and rest.get("logprobs"):
        choice["logprobs"]["content"] += rest["logprobs"]["content"]
    usage = first["usage"]
    usage["completion_tokens"] += second["usage"]["completion_tokens"]
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return first
