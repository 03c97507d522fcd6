"""Rules that most providers share."""

from __future__ import annotations

from providers.rules.engine import Rule, Takes
from providers.rules.messages import SystemPrompt
from providers.rules.pairs import Needs
from providers.rules.shapes import KeepStop
from providers.rules.values import Drop, EnforcedHere, OneOf, Range

GATEWAY: tuple[Rule, ...] = (
    SystemPrompt(),
    KeepStop(),
    EnforcedHere("timeout_microseconds", why="an upper bound on the gateway's own deadline"),
)
"""What the gateway does itself for every provider."""

CONTEXT_POLICY: tuple[Rule, ...] = (
    OneOf("context_length_exceeded_behavior", ("truncate", "error"), refuse=True),
    Drop("context_length_exceeded_behavior"),
)
"""Where the provider itself knows only errors."""

SAMPLING: tuple[Rule, ...] = (
    Range("temperature", 0, 2),
    Range("top_p", 0, 1),
    Range("frequency_penalty", -2, 2),
    Range("presence_penalty", -2, 2),
)

LOGPROBS: tuple[Rule, ...] = (Takes("logprobs"), Range("top_logprobs", 0, 20), Needs("top_logprobs", "logprobs"))

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

NEAREST_EFFORT = {"minimal": "low", "xhigh": "high", "max": "high"}
