"""Ollama's OpenAI endpoint. Facts: ollama source (commit fb30760). What it does not know it ignores silently; we say so."""

from __future__ import annotations

from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY
from providers.rules.engine import Takes
from providers.rules.messages import Parts
from providers.rules.pairs import Needs
from providers.rules.shapes import Choices, Format, Functions, Stop, StreamUsage, ToolChoice, Tools
from providers.rules.values import Cap, Drop, OneOf

OLLAMA = OpenAICompatible(
    "ollama",
    Wire(
        label="Ollama",
        base_url="http://localhost:11434/v1",
        needs_credential=False,
        takes_nulls=True,
        source="ollama source (commit fb30760)",
    ),
    (
        *GATEWAY,
        *CONTEXT_POLICY,
        Takes("model messages stream temperature top_p frequency_penalty presence_penalty logprobs top_logprobs reasoning"),
        Parts(takes=("text", "image_url"), remote_images=False),
        Cap("max_tokens"),
        Needs("top_logprobs", "logprobs"),
        Choices(param="n", hint=True),
        Stop("stop"),
        Functions("functions"),
        Tools("tools"),
        ToolChoice("tool_choice", ()),
        Format("response_format"),
        StreamUsage("stream_options", only_streams=False),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "ultra", "max")),
        Drop("logit_bias", why="ignored upstream"),
        Drop("user", why="ignored upstream"),
        Drop("parallel_tool_calls", why="ignored upstream"),
    ),
)
