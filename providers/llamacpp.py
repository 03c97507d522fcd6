"""llama.cpp's server. Facts: llama.cpp server README (commit 00dc805)."""

from __future__ import annotations

from providers.openai_compatible import OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY
from providers.rules.engine import Rule, Takes
from providers.rules.pairs import Needs
from providers.rules.shapes import Choices, Format, Functions, StreamUsage, ToolChoice, Tools
from providers.rules.values import Cap, Drop, Rename

LLAMACPP_RULES: tuple[Rule, ...] = (
    *GATEWAY,
    *CONTEXT_POLICY,
    Takes("model messages stream temperature top_p top_k min_p typical_p frequency_penalty presence_penalty stop logit_bias"),
    Takes("logprobs parallel_tool_calls reasoning_effort reasoning_format ignore_eos chat_template_kwargs"),
    Takes("xtc_threshold xtc_probability mirostat"),
    Needs("top_logprobs", "logprobs"),
    Cap("max_tokens", also=True),
    Choices(param="n", most=128),
    Functions("functions"),
    Tools("tools"),
    ToolChoice("tool_choice"),
    Format("response_format", ("text", "json_object", "json_schema")),
    StreamUsage("stream_options", only_streams=False),
    Rename("repetition_penalty", "repeat_penalty"),
    Rename("mirostat_target", "mirostat_tau"),
    Rename("mirostat_lr", "mirostat_eta"),
    Rename("perf_metrics_in_response", "timings_per_token"),
    Drop("user", why="ignored upstream"),
)

LLAMACPP_WIRE = Wire(
    label="llama.cpp",
    base_url="http://localhost:8080/v1",
    needs_credential=False,
    unknown="new",
    takes_nulls=True,
    prefill={},
    source="llama.cpp server README (commit 00dc805)",
)

LLAMACPP = OpenAICompatible("llamacpp", LLAMACPP_WIRE, LLAMACPP_RULES)
