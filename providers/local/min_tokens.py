"""`min_tokens` for an engine without such a parameter: one answer that must not end early, then its continuation.

The first request ignores the end of the text for `min_tokens` tokens. The second request continues the answer, which the engine
finds in its cache. A stop string still ends the text. The seed applies to each request, so the same seed still produces
the same text. With tools, the first answer may end early. The gateway continues this answer only if it is text, and then sends no tools.
JSON has no minimum, because the grammar of the engine ends the JSON where it is complete. Several choices are generated one after
another.
"""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body, Chain
from providers.rules.fan_out import fan_out
from providers.rules.rule import Rule, Work

MIN_TOKENS_MEMO = "local.least"
"""Key of `Options.memo`: the minimum number of tokens of the answer."""
MIN_TOKENS_CHOICES_MEMO = "local.least_choices"
"""Key of `Options.memo`: the number of choices, if there are several with a minimum."""
JSON_ENDS = "the engine's grammar allows nothing after the last bracket"
STOPPED = "stop_sequence"
"""Field of a choice that the gateway ended at a stop string."""
_TOOL_FIELDS = ("tools", "tool_choice", "parallel_tool_calls")

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class MinTokens(Rule, frozen=True):
    """Honours `min_tokens` by continuing the text, or drops it. This rule must come after OutputCap."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("min_tokens", "min_completion_tokens")

    def apply(self, work: Work) -> None:
        """Move the parameter from the body to the memo, or drop it if it cannot be honoured."""
        body = work.body
        for name in self.params:
            least = body.get(name)
            if name not in body:
                continue
            if least is None or least < 1:
                work.drop(name, "must be at least 1")
            elif (body.get("response_format") or {}).get("type", "text") != "text":
                work.drop(name, JSON_ENDS)
            elif body.get("tools") and body.get("tool_choice") not in (None, "auto", "none"):
                work.drop(name, "a forced call ends where its JSON is complete", "unsupported_combination")
            else:
                cap = body.get("max_tokens")
                if cap is not None and least > cap:
                    work.report_lossy(name, "clamp", "must not exceed max_tokens", from_=least, to=cap)
                work.options.memo[MIN_TOKENS_MEMO] = least if cap is None else min(least, cap)
                body.pop(name)
                work.report(name, "enforce_locally", why="the answer is continued until it has enough tokens")

    def describe(self) -> dict[str, dict[str, Any]]:
        advice = f"dropped in JSON mode and with a forced call: {JSON_ENDS}"
        return {name: {"support": "adjusted", "action": "enforce_locally", "advice": advice} for name in self.params}


def min_tokens_chain(body: Body, min_tokens: int, choices: int = 1) -> Chain:
    """Yield the requests for an adapted body. Return the combined answer."""
    one_choice = _with_tools if body.get("tools") else _plain
    if choices == 1:
        return (yield from one_choice(body, min_tokens))
    answers = []
    for each in fan_out(body, choices):
        answers.append(_decode((yield from one_choice(each, min_tokens))))
    merged = answers[0]
    merged["choices"] = [{**answer["choices"][0], "index": index} for index, answer in enumerate(answers)]
    merged["usage"]["completion_tokens"] = sum(answer["usage"]["completion_tokens"] for answer in answers)
    merged["usage"]["total_tokens"] = merged["usage"]["prompt_tokens"] + merged["usage"]["completion_tokens"]
    return _encode(merged)


def _with_tools(body: Body, min_tokens: int) -> Chain:
    """Continue the answer to a request with tools if the answer is a text that is too short.

    The engine does not report whether a stop string or the model ended a text. It therefore gets no stop strings, and the gateway
    finds them in the text.
    """
    without_stops = body.copy()
    without_stops.pop("stop")
    answer = yield without_stops
    first = _decode(answer)
    choice, used = first["choices"][0], first["usage"]["completion_tokens"]
    if choice.pop(STOPPED, None) is not None:
        return _encode(first)
    text = choice["message"].get("content")
    if choice["message"].get("tool_calls") or choice.get("finish_reason") != "stop" or used >= min_tokens or not text:
        return answer
    rest = body.copy()
    for name in _TOOL_FIELDS:
        rest.pop(name)
    rest.set("messages", [*body.get("messages"), {"role": "assistant", "content": text}])
    cap = body.get("max_tokens")
    if cap is not None:
        rest.set("max_tokens", cap - used)
    return _encode(_joined(first, _decode((yield from _plain(rest, min_tokens - used)))))


def _plain(body: Body, min_tokens: int) -> Chain:
    """Generate the text of one choice with a minimum length."""
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
    messages = body.get("messages")
    if messages[-1].get("role") == "assistant":  # this answer already continues a text
        messages, text = messages[:-1], messages[-1]["content"] + text
    rest.set("messages", [*messages, {"role": "assistant", "content": text}])
    if cap is not None:
        rest.set("max_tokens", cap - min_tokens)
    return _encode(_joined(first_answer, _decode((yield rest))))


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return both answers as one, with the texts and the log-probabilities joined and the prompt counted once."""
    choice, rest = first["choices"][0], second["choices"][0]
    choice["message"]["content"] += rest["message"]["content"] or ""
    choice["finish_reason"] = rest.get("finish_reason")
    if choice.get("logprobs") and rest.get("logprobs"):
        choice["logprobs"]["content"] += rest["logprobs"]["content"]
    usage = first["usage"]
    usage["completion_tokens"] += second["usage"]["completion_tokens"]
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return first
