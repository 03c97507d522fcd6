"""Groq. Facts: groq 1.7.0, console.groq.com/docs/openai."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.base import Failure, StreamDecoder, StreamFailure, Target
from providers.failures import scrub
from providers.openai_compatible import PATHS, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY, NEAREST_EFFORT
from providers.rules.engine import Takes
from providers.rules.messages import DropField, Roles
from providers.rules.pairs import Excludes
from providers.rules.shapes import Choices, Format, Stop, StreamUsage, ToolChoice, Tools
from providers.rules.values import Cap, Drop, OneOf, Range

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class GroqChunks(StreamDecoder):
    """Usage and errors may come inside `x_groq`."""

    def feed(self, event: str, data: bytes) -> Sequence[bytes]:
        """The chunk with its usage where OpenAI has it. StreamFailure for an error."""
        if b'"x_groq"' not in data:
            return (data,)
        chunk = _decode(data)
        extra = chunk.get("x_groq")
        if type(extra) is not dict:
            return (data,)
        error = extra.get("error")
        if error:
            message = error if type(error) is str else str(error.get("message")) if type(error) is dict else "the stream failed"
            raise StreamFailure(Failure("inband_error", scrub(message)))
        if extra.get("usage") is None or chunk.get("usage") is not None:
            return (data,)
        chunk["usage"] = extra.pop("usage")
        return (_encode(chunk),)


class Groq(OpenAICompatible):
    """Groq's wire: 498 means that the flex tier has no room."""

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """What an error answer means."""
        found = super().failure(status, headers, body, target)
        return msgspec.structs.replace(found, kind="overloaded") if status == 498 else found


_NO_MODEL = "no model supports it"

GROQ = Groq(
    "groq",
    Wire(
        label="Groq",
        base_url="https://api.groq.com/openai/v1",
        paths={name: PATHS[name] for name in ("chat",)},
        decoder=lambda _: GroqChunks(),
        source="groq 1.7.0",
    ),
    (
        *GATEWAY,
        *CONTEXT_POLICY,
        Takes("model messages stream user parallel_tool_calls functions function_call disable_tool_validation documents"),
        Takes("citation_options search_settings compound_custom"),
        Roles(takes=("system", "user", "assistant", "tool", "function")),
        DropField(field="name", keeps=("function",)),
        Cap("max_completion_tokens", also=True),
        Range("temperature", 0, 2),
        Range("top_p", 0, 1),
        Choices(param="n", sends_one=True, hint=True),
        Stop("stop", limit=4),
        Tools("tools", limit=128),
        ToolChoice("tool_choice"),
        Format("response_format"),
        StreamUsage("stream_options", "always"),
        OneOf("service_tier", ("auto", "on_demand", "flex", "performance")),
        OneOf("reasoning_effort", ("none", "default", "low", "medium", "high"), to=NEAREST_EFFORT),
        OneOf("reasoning_format", ("hidden", "raw", "parsed")),
        Takes("include_reasoning"),
        Excludes("include_reasoning", ("reasoning_format",)),
        Drop("frequency_penalty"),
        Drop("presence_penalty"),
        Drop("logit_bias"),
        Drop("logprobs"),
        Drop("top_logprobs"),
        Drop("metadata", why=_NO_MODEL),
        Drop("store", why=_NO_MODEL),
    ),
)
