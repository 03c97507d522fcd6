"""vLLM's server. Source: vllm chat_completion/protocol.py (commit 002032e)."""

from __future__ import annotations

from typing import Any

from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, ServerSettings, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.names import OutputCap, Rename
from providers.rules.pairs import Requires
from providers.rules.rule import Accepts, Rule, Work
from providers.rules.shapes import Choices, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, OneOf, Range


class RegexFormat(Rule, frozen=True):
    """A response_format of type regex, which vLLM accepts as structured_outputs."""

    def apply(self, work: Work) -> None:
        value = work.body.get(self.param)
        if type(value) is dict and value.get("type") == "regex":
            pattern = value.get("schema", value.get("pattern"))
            if type(pattern) is not str:
                raise work.refuse(self.param, "a regex format requires its pattern as 'schema'")
            work.body.pop(self.param)
            work.body.set("structured_outputs", {"regex": pattern})
            work.report(self.param, "reshape", to="structured_outputs.regex")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "yes", "values": ["text", "json_object", "json_schema", "regex"]}}


class ChoiceNeedsTools(Rule, frozen=True):
    """A tool choice without `tools`, which vLLM answers with 400."""

    def apply(self, work: Work) -> None:
        """Refuse such a choice. If `tools` is an empty list, a later rule drops the choice."""
        given = work.body.get(self.param)
        if given not in (None, "none") and "tools" not in work.body and not work.body.get("functions"):
            raise work.refuse(self.param, "it requires 'tools'")


class VllmServer(OpenAICompatible):
    """vLLM's server, which reports its load (vllm/v1/metrics/loggers.py)."""

    load_gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting")


VLLM = VllmServer(
    "vllm",
    Wire(
        label="vLLM",
        base_url="http://localhost:8000/v1",
        needs_credential=False,
        is_own_server=True,
        unknown="new",
        accepts_nulls=True,
        options=ServerSettings,
        paths={**PATHS, **RERANK_PATH},
        prefill={"continue_final_message": True, "add_generation_prompt": False},
        source="vLLM chat_completion/protocol.py (commit 002032e)",
    ),
    (
        ChoiceNeedsTools("tool_choice"),
        *GATEWAY_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream stop logit_bias logprobs frequency_penalty presence_penalty temperature min_p"),
        Accepts("top_k repetition_penalty ignore_eos include_reasoning chat_template_kwargs parallel_tool_calls"),
        OutputCap("max_completion_tokens", accepts_both=True),
        Range("top_p", 0, 1),
        Requires("top_logprobs", "logprobs"),
        Accepts("min_tokens"),
        Rename("min_completion_tokens", "min_tokens"),
        Choices(param="n", max_choices=16_384),
        LegacyFunctions("functions", one_call=True),
        Tools("tools"),
        ToolChoice("tool_choice"),
        StreamUsage("stream_options"),
        OneOf("reasoning_effort", ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        RegexFormat("response_format"),
        Rename("eos_token", "stop_token_ids"),
        Rename("reasoning_budget", "thinking_token_budget"),
        Rename("prompt_cache_isolation_key", "cache_salt"),
        Drop("user", why="accepted and ignored upstream"),
        Drop("echo", why="has another meaning upstream"),
        Drop("prompt_truncate_len", why="the upstream truncates tokens instead of removing messages"),
    ),
)
