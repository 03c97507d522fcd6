"""Groq. Sources: groq 1.7.0, console.groq.com/docs/openai."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.base import Failure, StreamFailure, Target
from providers.failures import redact
from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, SHARED_RULES
from providers.rules.legacy_functions import LegacyAnswers
from providers.rules.messages import Roles
from providers.rules.model_tables import NewerThan, nearest_efforts
from providers.rules.names import OutputCap
from providers.rules.not_given import ParallelWithoutTools
from providers.rules.pairs import Excludes
from providers.rules.rule import Accepts, ForModels
from providers.rules.schemas import StrictFormat
from providers.rules.shapes import Choices, ResponseFormat, StopStrings, StreamUsage, ToolChoice, Tools
from providers.rules.values import Drop, OneOf, Range
from providers.schema_dialects import GROQ_SCHEMAS


def move_usage(chunk: dict[str, Any]) -> bool:
    """Move the usage of a chunk out of `x_groq`, and return whether it was moved. Raise StreamFailure for an error in `x_groq`."""
    extra = chunk.get("x_groq")
    if type(extra) is not dict:
        return False
    error = extra.get("error")
    if error:
        message = error if type(error) is str else str(error.get("message")) if type(error) is dict else "the stream failed"
        raise StreamFailure(Failure("inband_error", redact(message)))
    if extra.get("usage") is None or chunk.get("usage") is not None:
        return False
    chunk["usage"] = extra.pop("usage")
    return True


class Groq(OpenAICompatible):
    """Groq, where status 498 means that the flex tier is at capacity."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        failure = super().failure(status, headers, body, target)
        return msgspec.structs.replace(failure, kind="overloaded") if status == 498 else failure


_OSS = ("low", "medium", "high")
_QWEN = dict.fromkeys(("minimal", "low", "medium", "high", "xhigh", "max"), "default")
_QWEN_RULES = (OneOf("reasoning_effort", ("none", "default"), nearest=_QWEN),)
"""Efforts by model as of 2026-11: console.groq.com/docs/reasoning; pi#1745, modelparams.dev#114, llmgateway#3422."""
_NO_MODEL = "no model supports it"
_NO_EFFORTS = "this model has no efforts"
_NO_REASONING = Drop("reasoning_effort", why=_NO_EFFORTS, neutral=("none",))


GROQ = Groq(
    "groq",
    Wire(
        label="Groq",
        base_url="https://api.groq.com/openai/v1",
        paths={name: PATHS[name] for name in ("chat",)},
        chunk_repairs=(move_usage,),
        source="groq 1.7.0",
    ),
    (
        *SHARED_RULES,
        *CONTEXT_POLICY,
        Accepts("model messages stream user parallel_tool_calls functions function_call disable_tool_validation documents"),
        Accepts("citation_options search_settings compound_custom"),
        Roles(accepts=("system", "user", "assistant", "tool", "function")),
        LegacyAnswers(),
        ParallelWithoutTools(counts_functions=False),
        OutputCap("max_completion_tokens", accepts_both=True),
        Range("temperature", 0, 2),
        Range("top_p", 0, 1),
        Choices(param="n", accepts_one=True, best_effort_seed=True),
        StopStrings("stop", limit=4),
        Tools("tools", limit=128),
        ToolChoice("tool_choice"),
        ResponseFormat("response_format"),
        StrictFormat(dialect=GROQ_SCHEMAS),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "on_demand", "flex", "performance")),
        Excludes("response_format", ("tools", "functions")),
        Drop("reasoning_effort", why=_NO_EFFORTS),
        OneOf("reasoning_format", ("hidden", "raw", "parsed")),
        Accepts("include_reasoning"),
        Excludes("include_reasoning", ("reasoning_format",)),
        Drop("frequency_penalty"),
        Drop("presence_penalty"),
        Drop("logit_bias"),
        Drop("logprobs"),
        Drop("top_logprobs"),
        Drop("metadata", why=_NO_MODEL),
        Drop("store", why=_NO_MODEL),
        ForModels(("llama", "meta-llama/", "gemma", "moonshotai/", "allam"), (_NO_REASONING,)),
        ForModels(("openai/gpt-oss",), (OneOf("reasoning_effort", _OSS, nearest={**nearest_efforts(_OSS), "default": "medium"}),)),
        NewerThan(("qwen/qwen",), _QWEN_RULES, (3, 9), "qwen/qwen3"),
        ForModels(("qwen/qwen3",), _QWEN_RULES),
    ),
)
