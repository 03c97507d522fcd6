"""Gemini's OpenAI-compatible endpoint, which rejects unknown fields.

Sources: ai.google.dev on the endpoint; reports of rejected fields (2025 to 2026) from several projects.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import Roles
from providers.rules.model_tables import NewerThan, efforts_rule
from providers.rules.names import OutputCap
from providers.rules.pairs import Excludes
from providers.rules.rule import Accepts, ForModels
from providers.rules.schemas import StrictFormat
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, OneOf, Range
from providers.schema_dialects import GEMINI_SCHEMAS

_ALWAYS = (efforts_rule(("low", "medium", "high")),)
"""Efforts of models that cannot stop thinking, as of 2026-11: ai#8027, pi#3460."""

_TOOLS_OR_JSON = (ResponseFormat("response_format"), Excludes("response_format", ("tools", "functions")))
"""Rules for models before Gemini 3, which do not accept tools and a response format together. As of 2026-11:
openai-agents-python#656, python-genai#867, ai-manus#101."""

GEMINI = OpenAICompatible(
    "gemini",
    Wire(
        label="Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        paths={name: PATHS[name] for name in ("chat", "embeddings")},
        hides_output=True,  # November 2026: CLIProxyAPI#5733, any-llm#1290, vercel/ai#6082
        source="ai.google.dev, issue reports",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream"),
        Roles(accepts=("system", "user", "assistant", "tool")),
        OutputCap("max_completion_tokens", accepts_both=True),
        Range("temperature", 0, 2),
        Range("top_p", 0, 1),
        Choices(param="n", max_choices=8, has_seed=False),
        StopStrings("stop", limit=5),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format"),
        StrictFormat(dialect=GEMINI_SCHEMAS),
        StreamUsage("stream_options"),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high"), nearest={"xhigh": "high", "max": "high"}),
        Drop("frequency_penalty", why="unknown name upstream, or not enabled for the model"),
        Drop("presence_penalty", why="unknown name upstream, or not enabled for the model"),
        Accepts("extra_body"),
        Drop("parallel_tool_calls", why="reported as an unknown name upstream"),
        NewerThan(("gemini-",), _ALWAYS, (3, 5), "gemini-3.5"),
        ForModels(("gemini-3",), _ALWAYS),
        ForModels(("gemini-2.5-pro",), (*_ALWAYS, *_TOOLS_OR_JSON)),
        ForModels(("gemini-1", "gemini-2"), _TOOLS_OR_JSON),
    ),
)
