"""Upper bounds for strict limits: a call never uses more than it reserves.

A tokenizer that works on bytes makes at most one token per byte. The upper bound of a prompt is therefore its size plus the
tokens that chat templates add around messages and tools. The bounds of images and audio follow from the rules of the
providers to which the call may be sent. The output is bounded by a cap that is sent upstream. Content for which no bound is known
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from gateway.errors import refuse
from gateway.tokens.estimate import requested_cap
from gateway.tokens.inputs import DOCUMENTS_PER_UNIT, WITHOUT_OUTPUT, choice_count, generated_count, input_count
from providers.base import Adjustment, Body, Target
from providers.media.parts import bound_part
from providers.media.table import MediaRules, media_rules
from providers.rules.rerank import document_texts

if TYPE_CHECKING:
    from gateway.call import Call

TEMPLATE_TOKENS = 256
"""Upper bound of the tokens that a chat template adds to a call: a default system message, dates, the beginning of the answer."""
TOKENS_PER_MESSAGE = 32
TOKENS_PER_INPUT = 32
"""Upper bound of the tokens that a model adds around each input of an embeddings request: special tokens, an instruction."""
TOOL_INSTRUCTION_TOKENS = 1024
"""Upper bound of the tokens of the instructions that providers insert before tools or documents.

The highest documented number is about 530 (Anthropic).
"""
TOKENS_PER_TOOL = 64
TOKENS_PER_CHUNK = 500
"""Maximum number of tokens of a document that counts once in Cohere's search units.

Source: learn.microsoft.com, Cohere rerank models, as of 2026-11-28. Older models allow longer documents.
"""
JSON_MODE_TOKENS = 512
"""Upper bound of the tokens of the instructions that replace a response format if the provider does not support it."""


def max_prompt_tokens(call: Call, targets: Sequence[Target]) -> int:
    """Return an upper bound of the prompt's tokens at these targets. Raise BadRequest for content that has no upper bound."""
    body = call.body
    assert body is not None
    if call.operation == "embeddings":
        return call.body_bytes + TOKENS_PER_INPUT * input_count(body)
    if call.operation == "rerank":
        each = len(body.raw("query") or b"") + TOKENS_PER_INPUT  # the query is read with each document
        return call.body_bytes + each * len(body.get("documents"))
    if call.operation == "completions":
        bound = call.body_bytes + TEMPLATE_TOKENS + TOKENS_PER_MESSAGE * input_count(body, "prompt")
        return bound * generated_count(body, call.operation)
    messages, tools = body.get("messages") or (), body.get("tools") or ()
    rules = {media_rules(target.kind.type, target.model) for target in targets}
    media = sum(_media_bound(message, index, rules) for index, message in enumerate(messages))
    bound = call.body_bytes + media + TEMPLATE_TOKENS + TOKENS_PER_MESSAGE * len(messages)
    if type(documents := body.get("documents")) is list:
        bound += TOOL_INSTRUCTION_TOKENS + TOKENS_PER_TOOL * len(documents)
    if tools:
        bound += TOOL_INSTRUCTION_TOKENS + TOKENS_PER_TOOL * len(tools)
    if "response_format" in body:
        bound += JSON_MODE_TOKENS
    return bound * choice_count(body)  # choices may be separate requests, each billed with the prompt


def max_output_tokens(call: Call, default: int) -> int:
    """Return the maximum output of a call, which is `default` for each choice if the call sets no cap.

    It is 0 for operations without output.
    """
    body = call.body
    assert body is not None
    if call.operation in WITHOUT_OUTPUT:
        return 0
    cap = requested_cap(body)
    return (default if cap is None else cap) * generated_count(body, call.operation)


def max_search_units(call: Call) -> int:
    """Return an upper bound on the search units of a call.

    Cohere counts each chunk of 500 tokens, including the query, as a document.
    """
    body = call.body
    if call.operation != "rerank" or body is None:
        return 0
    room = max(1, TOKENS_PER_CHUNK - len(body.raw("query") or b""))
    chunks = sum(math.ceil(len(text.encode("utf-8", "surrogatepass")) / room) or 1 for text in document_texts(body))
    return math.ceil(chunks / DOCUMENTS_PER_UNIT)


def requested_tier(body: Body) -> str:
    """Return the service tier that a call asks for, or "" if it leaves the choice to the provider."""
    tier = body.get("service_tier") if "service_tier" in body else None
    return tier if isinstance(tier, str) and tier != "auto" else ""


def _media_bound(message: Any, index: int, rules: Collection[MediaRules]) -> int:
    """Return an upper bound of the tokens of a message's media, less the bytes of their data in the body.

    Raise BadRequest for content without an upper bound.
    """
    content = message.get("content") if isinstance(message, dict) else None
    total = 0
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") not in ("text", "refusal"):
            bounds = [bound_part(part, each) for each in rules]
            known = [bound for bound in bounds if bound is not None]
            if not known or len(known) < len(bounds):
                raise refuse(
                    f"messages[{index}].content",
                    f"content of type '{str(part.get('type'))[:40]}' is not allowed under a strict token limit: its token count has no "
                    "upper bound. Images have an upper bound, and so do audio and text whose data is in the request.",
                    "unsupported_content",
                )
            total += max(bound.tokens for bound in known) - known[0].data_chars
    return total


def set_output_cap(body: Body, cap: int, name: str = "max_tokens") -> Adjustment:
    """Set the reserved output cap in a request without a cap. Return the adjustment. `name` is the name of the cap's field."""
    body.set(name, cap)
    return Adjustment(name, "set_default", to=cap, why="a strict limit has reserved this many output tokens")
