"""Together. Source: together 3.1.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.answers import Repair, choices_of, message_of
from providers.base import Failure, Target
from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, Wire
from providers.rules.common import NEAREST_EFFORT, SHARED_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.names import OutputCap
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, MapValues, OneOf, Range


class LogprobsAsCount(Rule, frozen=True):
    """Together's `logprobs` is the number of likely tokens to list, which OpenAI calls top_logprobs."""

    @property
    def params(self) -> tuple[str, ...]:
        return ("logprobs", "top_logprobs")

    def apply(self, work: Work) -> None:
        """Combine the two parameters into one number."""
        body = work.body
        enabled, top = body.get("logprobs"), body.get("top_logprobs")
        if type(enabled) is int and enabled and not top:
            return
        if not enabled:
            if top:
                raise work.refuse("top_logprobs", "it requires 'logprobs'")
            for name in ("logprobs", "top_logprobs"):
                if name in body:
                    work.drop(name)
        elif top:
            body.set("logprobs", top)
            body.pop("top_logprobs")
            work.report("top_logprobs", "rename", to="logprobs")
        elif enabled is True:
            if "top_logprobs" in body:
                work.drop("top_logprobs")
            body.set("logprobs", 1)
            work.report("logprobs", "reshape", from_=True, to=1)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {
            "logprobs": {"support": "adjusted", "action": "reshape", "to": "logprobs"},
            "top_logprobs": {"support": "adjusted", "action": "rename", "to": "logprobs", "max": 20},
        }


def convert_logprobs(answer: dict[str, Any]) -> bool:
    """Convert lists of tokens and log-probabilities to OpenAI's entries. A chunk's single number becomes one entry."""
    changed = False
    for choice in choices_of(answer):
        logprobs = choice.get("logprobs")
        if type(logprobs) in (int, float):
            choice["logprobs"] = {"content": [_entry(message_of(choice).get("content") or "", logprobs, None)]}
            changed = True
        elif type(logprobs) is dict and "content" not in logprobs and type(logprobs.get("tokens")) is list:
            choice["logprobs"] = {"content": _entries(logprobs)}
            changed = True
    return changed


def _entries(logprobs: dict[str, Any]) -> list[dict[str, Any]]:
    tokens, values, tops = logprobs["tokens"], logprobs.get("token_logprobs") or [], logprobs.get("top_logprobs") or []
    return [
        _entry(str(token), values[index] if index < len(values) else None, tops[index] if index < len(tops) else None)
        for index, token in enumerate(tokens)
    ]


def _entry(token: str, logprob: Any, top: Any) -> dict[str, Any]:
    value = logprob if type(logprob) in (int, float) else -9999.0
    likely = top.items() if type(top) is dict else ()
    return _named(token, value) | {"top_logprobs": [_named(str(other), number) for other, number in likely]}


def _named(token: str, logprob: Any) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


class Together(OpenAICompatible):
    """Together, where status 403 means that the prompt is too long, not that the credential is wrong."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        failure = super().failure(status, headers, body, target)
        if status != 403 or failure.kind != "auth":
            return failure
        changes = {"kind": "context_overflow", "status": 400, "code": "context_length_exceeded", "type": "invalid_request_error"}
        return msgspec.structs.replace(failure, **changes)


_REPAIRS: tuple[Repair, ...] = (convert_logprobs,)

TOGETHER = Together(
    "together",
    Wire(
        label="Together",
        base_url="https://api-inference.together.ai/v1",
        paths={**PATHS, **RERANK_PATH},
        repairs=_REPAIRS,
        chunk_repairs=_REPAIRS,
        source="together 3.1.1",
    ),
    (
        *SHARED_RULES,
        OneOf("context_length_exceeded_behavior", ("truncate", "error"), refuse=True),
        Accepts("model messages stream top_k repetition_penalty logit_bias echo chat_template_kwargs reasoning safety_model compliance"),
        Roles(accepts=("system", "user", "assistant", "tool", "function")),
        OutputCap("max_tokens"),
        Range("temperature", 0, 1),
        Range("top_p", 0, 1),
        Range("min_p", 0, 1),
        Range("frequency_penalty", -2, 2),
        Range("presence_penalty", -2, 2),
        Choices(param="n", max_choices=128, best_effort_seed=True),
        StopStrings("stop", as_list=True),
        Range("top_logprobs", 0, 20),
        LogprobsAsCount("logprobs"),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format"),
        StreamUsage("stream_options", "always"),
        MapValues("reasoning_effort", "reasoning", (("none", {"enabled": False}),), shown_as="reasoning.enabled", keep_others=True),
        OneOf("reasoning_effort", ("low", "medium", "high"), nearest=NEAREST_EFFORT),
        MapValues("disable_reasoning", "reasoning", ((True, {"enabled": False}), (False, None)), shown_as="reasoning.enabled"),
        Drop("user", why="no such field"),
        Drop("parallel_tool_calls", why="no such field"),
    ),
)
