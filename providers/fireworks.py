"""Fireworks. Sources: Fireworks' chat completions page, and fireworks-ai 1.2.30.

According to the page, the text includes the stop string; according to the package, it does not. The gateway removes the stop string.
"""

from __future__ import annotations

from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, Wire
from providers.rules.advice import NoEffect
from providers.rules.common import NEAREST_EFFORT, SAMPLING, SHARED_RULES
from providers.rules.legacy_functions import LegacyAnswers
from providers.rules.messages import ContentParts, Roles
from providers.rules.model_tables import NewerThan, efforts_rule
from providers.rules.names import OutputCap, Rename
from providers.rules.not_given import ParallelWithoutTools
from providers.rules.pairs import Discouraged, Excludes, Requires
from providers.rules.rule import Accepts, ForModels, Rule
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import BiasRange, MapValues, OneOf, Range

_MODELS = "accounts/fireworks/models/"
_ROUTERS = "accounts/fireworks/routers/"


def _models(*names: str) -> tuple[str, ...]:
    """Return the prefixes of models and of their faster routers."""
    return tuple(f"{folder}{name}" for folder in (_MODELS, _ROUTERS) for name in names)


_EFFORTS = ("none", "low", "medium", "high")
_ALWAYS: tuple[Rule, ...] = (efforts_rule(("low", "medium", "high")),)
"""Rules for models that always reason. MiniMax M2 and gpt-oss also reject booleans and numbers."""
_DEEPSEEK: tuple[Rule, ...] = (efforts_rule((*_EFFORTS, "xhigh", "max"), accepts_numbers=True),)
_GLM: tuple[Rule, ...] = (efforts_rule(("none", "high", "max"), accepts_numbers=True),)
_BY_MODEL: tuple[ForModels, ...] = (
    NewerThan(_models("deepseek-v"), _DEEPSEEK, (4, 1), "deepseek-v4"),
    ForModels(_models("deepseek-v4"), _DEEPSEEK),
    NewerThan(_models("glm-"), _GLM, (5, 2), "glm-5p2"),
    ForModels(_models("glm-5"), _GLM),
    NewerThan(_models("kimi-k"), _ALWAYS, (2, 7), "kimi-k2p7"),
    ForModels(_models("kimi-k2"), _ALWAYS),
    NewerThan(_models("minimax-m"), _ALWAYS, (2, 7), "minimax-m2p7"),
    ForModels(_models("minimax-m2", "gpt-oss"), _ALWAYS),
)
"""Efforts by model, as of 2026-11. Sources: docs.fireworks.ai/guides/reasoning and fireworks-ai 1.2.30; for DeepSeek V4 Pro,
GLM 5 and Kimi K2 as quoted by langchain-ai/deepagents (reasoning_effort)."""

FIREWORKS = OpenAICompatible(
    "fireworks",
    Wire(
        label="Fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        paths={**PATHS, **RERANK_PATH},
        source="Fireworks' chat completions page and fireworks-ai 1.2.30",
    ),
    (
        *SHARED_RULES,
        Accepts("model messages stream seed ignore_eos echo echo_last raw_output return_token_ids safe_tokenization speculation"),
        Accepts("parallel_tool_calls functions function_call user metadata prompt_cache_key prompt_cache_isolation_key prediction"),
        Accepts("mirostat_target mirostat_lr reasoning_history perf_metrics_in_response"),
        Accepts("logprobs"),
        Roles(accepts=("system", "user", "assistant", "tool", "function")),
        ContentParts(accepts=("text", "image_url", "video_url")),
        LegacyAnswers(),
        ParallelWithoutTools(counts_functions=False),
        OutputCap("max_tokens"),
        OneOf("context_length_exceeded_behavior", ("truncate", "error"), refuse=True),
        Excludes("prompt_truncate_len", ("safe_tokenization",)),
        *SAMPLING,
        Discouraged("temperature", "top_p", "Fireworks recommends altering one of temperature and top_p, not both"),
        Range("top_k", 0, 100),
        Range("min_p", 0, 1),
        Range("typical_p", 0, 1),
        Range("repetition_penalty", 0, 2),
        Choices(param="n", max_choices=128),
        StopStrings("stop", limit=4),
        BiasRange("logit_bias"),
        Range("logprobs", 0, 5),
        Range("top_logprobs", 0, 5),
        Requires("top_logprobs", "logprobs"),
        Tools("tools"),
        ToolChoice("tool_choice", ("auto", "none", "required", "any", "named")),
        ResponseFormat("response_format", ("text", "json_object", "json_schema", "grammar"), warn_without_json=True),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "default", "flex", "priority")),
        NoEffect("service_tier", ("priority",)),
        Rename("reasoning_budget", "reasoning_effort"),
        MapValues("disable_reasoning", "reasoning_effort", ((True, "none"), (False, None)), shown_as="reasoning_effort"),
        MapValues("clear_thinking", "reasoning_history", ((True, "disabled"), (False, "preserved"))),
        OneOf("reasoning_effort", _EFFORTS, nearest=NEAREST_EFFORT, accepts_numbers=True),
        Excludes("thinking", ("reasoning_effort",), refuse=True, code="conflicting_parameters"),
        *_BY_MODEL,
    ),
)
