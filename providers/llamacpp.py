"""llama.cpp's server. Source: llama.cpp server README (commit 00dc805)."""

from __future__ import annotations

from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, ServerSettings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts, Rule
from providers.rules.shapes import Choices, ResponseFormat, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop

LLAMACPP_RULES: tuple[Rule, ...] = (
    *GATEWAY_RULES,
    *CONTEXT_POLICY,
    Accepts("model messages stream temperature top_p top_k min_p typical_p frequency_penalty presence_penalty stop logit_bias"),
    Accepts("logprobs parallel_tool_calls reasoning_effort reasoning_format ignore_eos chat_template_kwargs"),
    Accepts("xtc_threshold xtc_probability mirostat"),
    Requires("top_logprobs", "logprobs"),
    OutputCap("max_tokens", accepts_both=True),
    Choices(param="n", max_choices=128),
    LegacyFunctions("functions", one_call=True),
    Tools("tools"),
    ToolChoice("tool_choice"),
    ResponseFormat("response_format", ("text", "json_object", "json_schema")),
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
    is_own_server=True,
    unknown="new",
    accepts_nulls=True,
    options=ServerSettings,
    paths={**PATHS, **RERANK_PATH},
    prefill={},
    source="llama.cpp server README (commit 00dc805)",
)

LLAMACPP = OpenAICompatible("llamacpp", LLAMACPP_WIRE, LLAMACPP_RULES)
