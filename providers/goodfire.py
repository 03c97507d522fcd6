"""Goodfire: two steerable Llama models under paths of their own.

Facts: its chat API documentation, and goodfire 0.3.5 (wire body, duplicates in streams, plain-text errors, logits call).
The host may be gone (the package was archived in October 2025); nothing here was run against it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from providers.answers import Repair
from providers.openai_compatible import OpenAICompatible, Settings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY
from providers.rules.engine import Rule, Takes
from providers.rules.messages import DropField, NoToolTurns, Parts, Roles
from providers.rules.shapes import Choices, Format, StreamUsage
from providers.rules.values import Cap, Default, Drop, FromSetting, Refuse
from providers.streams import FreshTokens


class GoodfireSettings(Settings, frozen=True, forbid_unknown_fields=True):
    """Goodfire's settings."""

    controller: dict[str, Any] | None = None
    """A model variant: interventions and scopes on features, for every request that brings none."""


_CLIENT = "stated by Goodfire's own client; what the server would choose is not known"

CHAT: tuple[Rule, ...] = (
    *GATEWAY,
    *CONTEXT_POLICY,
    Takes("model messages stream controller"),
    Takes("temperature top_p stop"),
    Roles(takes=("system", "user", "assistant")),
    Parts(takes=(), as_string=("system", "user", "assistant")),
    NoToolTurns(),
    DropField(field="name"),
    Refuse("tools", why="it knows no tools"),
    Refuse("functions", why="it knows no tools"),
    Drop("tool_choice", why="it knows no tools", neutral=("none", "auto")),
    Drop("function_call", why="it knows no tools", neutral=("none", "auto")),
    Drop("parallel_tool_calls", why="it knows no tools", neutral=(True, False)),
    Format("response_format", ()),
    Choices(param="n"),
    Cap("max_completion_tokens"),
    Default("max_completion_tokens", 2048, why=_CLIENT),
    Default("top_p", 0.9, why=_CLIENT),
    Default("temperature", 0.6, why=_CLIENT),
    Default("seed", 42, why=_CLIENT),
    Default("stop", ["<|eot_id|>", "<|begin_of_text|>"], why=_CLIENT),
    Default("stream", False, why=_CLIENT),
    StreamUsage("stream_options", "never"),
    FromSetting("controller"),
)

LOGITS: tuple[Rule, ...] = (
    *GATEWAY,
    Takes("model messages filter_vocabulary controller"),
    Roles(takes=("system", "user", "assistant")),
    Parts(takes=(), as_string=("system", "user", "assistant")),
    NoToolTurns(),
    Default("top_k", 10, why="the default of Goodfire's own client"),
    FromSetting("controller"),
)


def filled_created(clock: Callable[[], float]) -> Repair:
    """Goodfire's `created` may be null, OpenAI's may not."""

    def repair(answer: dict[str, Any]) -> bool:
        if answer.get("created") is not None:
            return False
        answer["created"] = int(clock())
        return True

    return repair


GOODFIRE = OpenAICompatible(
    "goodfire",
    Wire(
        label="Goodfire",
        base_url="https://api.goodfire.ai/api/inference/v1",
        paths={"chat": "/chat/completions", "logits": "/chat-attribution/compute-logits"},
        options=GoodfireSettings,
        repairs=(filled_created(time.time),),
        decoder=lambda _: FreshTokens(),
        source="goodfire 0.3.5 and its chat documentation",
    ),
    CHAT,
    {"logits": LOGITS},
)
