"""The embedded engine as a provider: llama.cpp's variant of OpenAI's wire format, over a unix socket.

The engine detects a caller's disconnect only while it streams, so it streams the answer to every request for text (`always_streams`)
and reports the progress of a long prompt. The gateway aggregates the chunks for callers that do not ask for a stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.base import (
    Adjustment,
    Answer,
    Body,
    Chain,
    Failure,
    Options,
    ProbabilitySteps,
    Refusal,
    StreamDecoder,
    Target,
    WireRequest,
)
from providers.local import min_tokens
from providers.local.min_tokens import MIN_TOKENS_CHOICES_MEMO, MIN_TOKENS_MEMO, MinTokens
from providers.local.options import EMBEDDING_MODELS, LocalOptions
from providers.local.probabilities import find_probabilities
from providers.local.rerank import BY_VECTORS_MEMO, RankByModel, VectorsOfModel, read_vectors
from providers.local.rules import (
    CHOICES_MEMO,
    MODEL_MEMO,
    PROMPTS_MEMO,
    DefaultPenalty,
    DefaultSystemMessage,
    DefaultTemperature,
    DropEmptyStops,
    FoldSeed,
    ListAlternatives,
    SlotChoices,
    WarnUnanchoredPatterns,
)
from providers.local.stream import EngineDecoder, with_model
from providers.local.tools import ForcedTools, ToolTurnsAsText
from providers.openai_compatible import PATHS, RERANK_PATH, OpenAICompatible, Wire
from providers.rules.common import CONTEXT_POLICY, GATEWAY_RULES
from providers.rules.legacy_functions import LegacyFunctions
from providers.rules.messages import ContentParts, Roles
from providers.rules.names import OutputCap, Rename
from providers.rules.rule import Accepts, ForModels, Rule
from providers.rules.shapes import ResponseFormat, StreamUsage
from providers.rules.values import BiasRange, EnforcedLocally, Range

VECTOR_OPERATIONS = frozenset({"embeddings", "rerank"})
"""Operations that do not stream."""
NOT_SAMPLING = "the engine does not use it"

RULES: tuple[Rule | ForModels, ...] = (
    Accepts("model messages stream ignore_eos mirostat"),
    *GATEWAY_RULES,
    *CONTEXT_POLICY,
    LegacyFunctions("functions"),
    ToolTurnsAsText(),
    Roles(accepts=("system", "user", "assistant", "tool")),
    ContentParts(accepts=("text",)),
    DefaultSystemMessage(),
    DefaultTemperature(),
    Range("temperature", 0, 2),
    Range("top_p", 0, 1),
    Range("min_p", 0, 1),
    Range("typical_p", 0, 1),
    Range("top_k", -1, 1_000_000),
    Range("xtc_probability", 0, 1),
    Range("xtc_threshold", 0, 1),
    Range("frequency_penalty", -2, 2),
    Range("presence_penalty", -2, 2),
    DefaultPenalty(),
    Range("repetition_penalty", 0.1, 10),
    Rename("repetition_penalty", "repeat_penalty"),
    Rename("mirostat_target", "mirostat_tau"),
    Rename("mirostat_lr", "mirostat_eta"),
    Range("top_logprobs", 0, 20, refuse=True),
    BiasRange("logit_bias"),
    OutputCap("max_tokens"),
    MinTokens("min_tokens"),
    DropEmptyStops(),
    SlotChoices(),
    FoldSeed(),
    ResponseFormat("response_format"),
    WarnUnanchoredPatterns(),
    ForcedTools(),
    ListAlternatives(),
    StreamUsage("stream_options"),
    EnforcedLocally("user", why=NOT_SAMPLING),
    EnforcedLocally("safety_identifier", why=NOT_SAMPLING),
    EnforcedLocally("prompt_cache_key", why=NOT_SAMPLING),
    EnforcedLocally("metadata", why=NOT_SAMPLING),
)

_INTERNAL = re.compile(
    r"^(compute error|invalid input batch|internal|failed to (decode|process|allocate|load)|out of memory)", re.IGNORECASE
)
_TOO_LARGE = re.compile(r"input \((\d+) tokens\) is (?:too large to process.*current batch|larger than the max context) size:? \(?(\d+)")
_UNKNOWN_ID = re.compile(r"vector::_M_range_check|invalid (vector )?subscript")
"""The words of C++ libraries for an id beyond the vocabulary."""
_PREFIX = re.compile(r"^(unable to generate parser for this template\. )?(automatic parser generation failed: )?", re.IGNORECASE)


class Local(OpenAICompatible):
    """The provider `local`."""

    always_streams = True

    def adapt(self, body: Body, target: Target, options: Options) -> list[Adjustment]:
        """Apply the rules in place, and remember the model that the caller asked for."""
        options.memo[MODEL_MEMO] = body.get("model")
        if options.operation not in VECTOR_OPERATIONS and target.options.get("bundled") in EMBEDDING_MODELS:
            message = f"{target.name} does not generate text: it offers embeddings and rerank."
            raise Refusal(message, "model", "unsupported_operation")
        if options.operation == "completions":
            options.memo[CHOICES_MEMO] = body.get("n") or 1
            options.memo[PROMPTS_MEMO] = _prompt_count(body.get("prompt"))
        return super().adapt(body, target, options)

    def encode(self, body: Body, target: Target, options: Options) -> WireRequest:
        """Return the request for an adapted body. A request for text is a stream that reports the progress of the prompt."""
        if options.operation not in VECTOR_OPERATIONS:
            body.set("stream", True)
            body.set("stream_options", {"include_usage": True})
            body.set("return_progress", True)
        request = super().encode(body, target, options)
        if BY_VECTORS_MEMO in options.memo:
            request.path = self.path(target, "embeddings")
        return request

    def decode(self, body: bytes, target: Target, options: Options) -> Answer:
        """Return the answer with the model that the caller asked for."""
        if BY_VECTORS_MEMO in options.memo:
            return read_vectors(body)
        return super().decode(with_model(body, options, target.model), target, options)

    def decoder(self, target: Target, options: Options) -> StreamDecoder | None:
        return EngineDecoder(options)

    def chained(self, body: Body, options: Options) -> Chain | None:
        """Return the requests that honour `min_tokens`, or None if one request is enough."""
        least = options.memo.get(MIN_TOKENS_MEMO)
        if least is None:
            return None
        return min_tokens.min_tokens_chain(body, least, options.memo.get(MIN_TOKENS_CHOICES_MEMO, 1))

    def probabilities(
        self, body: Body, target: Target, options: Options, top_k: int | None, vocabulary: Sequence[str] | None
    ) -> ProbabilitySteps:
        """Return the requests that find next-token probabilities for an adapted chat body."""
        return find_probabilities(body.get("messages"), top_k, vocabulary)

    def models_path(self, base: str) -> str | None:
        """Return None, because an engine has only the model that the configuration names."""
        return None

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, target: Target | None = None) -> Failure:
        """Return the failure that an error response reports. The engine answers most client errors with 500."""
        failure = super().failure(status, headers, body, target)
        if (sizes := _TOO_LARGE.match(failure.message)) is not None:
            message = f"an input has {sizes[1]} tokens, and the local engine's model accepts at most {sizes[2]}"
            return Failure("context_overflow", message, 400, "context_length_exceeded", None, "invalid_request_error")
        if _UNKNOWN_ID.match(failure.message):
            message = "'tokens' has an id that is not a token of the local engine's model"
            return Failure("client_error", message, 400, "invalid_value", "tokens", "invalid_request_error")
        if "does not support logits" in failure.message:
            message = "the local engine's model does not generate text: it offers embeddings or rerank"
            return Failure("client_error", message, 400, "unsupported_operation", "model", "invalid_request_error")
        if status == 500 and failure.kind == "server_error" and failure.type == "server_error" and not _INTERNAL.match(failure.message):
            failure = msgspec.structs.replace(failure, kind="client_error", status=400, type="invalid_request_error")
        if failure.kind not in ("client_error", "context_overflow"):
            return failure
        code = "invalid_value" if failure.code is None or failure.code.isdigit() else failure.code
        return msgspec.structs.replace(failure, code=code, param=failure.param or _param(failure), message=_PREFIX.sub("", failure.message))


def _prompt_count(prompt: Any) -> int:
    """Return the number of prompts of a completion. A list of token ids is one prompt."""
    return len(prompt) if type(prompt) is list and type(prompt[0]) is not int else 1


def _param(failure: Failure) -> str | None:
    """Return the parameter that the engine's message is about, or None if it is unknown."""
    if failure.code == "context_length_exceeded":
        return "messages"
    if "JSON schema" in failure.message or "response_format" in failure.message or "grammar" in failure.message:
        return "response_format"
    quoted = re.search(r"Field '(\w+)'", failure.message)
    return quoted[1] if quoted else None


LOCAL = Local(
    "local",
    Wire(
        label="the local engine",
        base_url="http://engine/v1",
        needs_credential=False,
        is_own_server=True,
        options=LocalOptions,
        prefill={},
        paths={**PATHS, **RERANK_PATH},
        source="xllamacpp 2026.10.11549",
    ),
    RULES,
    {"embeddings": (VectorsOfModel(),), "rerank": (RankByModel(),)},
)
