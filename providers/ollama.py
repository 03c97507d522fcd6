"""Ollama's OpenAI endpoint. The endpoint ignores unknown fields silently; the rules report these fields.

Source: Ollama's code (commit fb30760).
"""

from __future__ import annotations

from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import ContentParts
from providers.rules.names import OutputCap
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, OneOf

OLLAMA = OpenAICompatible(
    "ollama",
    Wire(
        label="Ollama",
        base_url="http://localhost:11434/v1",
        needs_credential=False,
        is_own_server=True,
        accepts_nulls=True,
        source="ollama source (commit fb30760)",
    ),
    (
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream temperature top_p frequency_penalty presence_penalty logprobs top_logprobs reasoning"),
        ContentParts(accepts=("text", "image_url"), remote_images=False),
        OutputCap("max_tokens"),
        Requires("top_logprobs", "logprobs"),
        Choices(param="n", best_effort_seed=True),
        StopStrings("stop"),
        LegacyFunctions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice", ()),
        ResponseFormat("response_format"),
        StreamUsage("stream_options", only_streams=False),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")),
        Drop("logit_bias", why="ignored upstream"),
        Drop("user", why="ignored upstream"),
        Drop("parallel_tool_calls", why="ignored upstream"),
    ),
)
