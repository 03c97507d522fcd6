"""Gemini's OpenAI-compatible endpoint, which rejects every field it does not know.

Facts: ai.google.dev on the endpoint; reports of rejected fields (2025 to 2026) from several projects.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY
from providers.rules.engine import Takes
from providers.rules.messages import DropField, Roles
from providers.rules.shapes import Choices, Format, Functions, Stop, StreamUsage, ToolChoice, Tools
from providers.rules.values import Cap, Drop, OneOf, Range

GEMINI = OpenAICompatible(
    "gemini",
    Wire(
        label="Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        paths={name: PATHS[name] for name in ("chat", "embeddings")},
        source="ai.google.dev, issue reports",
    ),
    (
        *GATEWAY,
        *CONTEXT_POLICY,
        Takes("model messages stream"),
        Roles(takes=("system", "user", "assistant", "tool")),
        DropField(field="name", keeps=("tool",)),
        Cap("max_completion_tokens", also=True),
        Range("temperature", 0, 2),
        Range("top_p", 0, 1),
        Choices(param="n", most=8, seeds=False),
        Stop("stop", limit=5),
        Functions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        Format("response_format"),
        StreamUsage("stream_options"),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high"), to={"xhigh": "high", "max": "high"}),
        Drop("frequency_penalty", why="unknown name upstream, or not enabled for the model"),
        Drop("presence_penalty", why="unknown name upstream, or not enabled for the model"),
        Drop("parallel_tool_calls", why="reported as an unknown name upstream"),
    ),
)
