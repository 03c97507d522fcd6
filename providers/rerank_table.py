"""The requests that each provider's rerank endpoint accepts.

Every row names its source and the date on which it was read.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

RERANK_FIELDS = (
    "max_tokens_per_doc", "max_chunks_per_doc", "relevant_spans", "priority", "task", "provider", "truncation",
    "truncate_prompt_tokens", "truncation_side", "use_activation", "mm_processor_kwargs", "cache_salt", "request_id", "user",
)  # fmt: skip
"""Fields that some vendors define, besides those that every request has."""


class RerankRow(msgspec.Struct, frozen=True, kw_only=True):
    """The rerank endpoint of one provider. Every rerank endpoint accepts `model`, `query`, `documents` (texts) and `top_n`."""

    max_documents: int | None = None
    """Maximum number of documents in one request. Longer lists are refused."""
    returns_documents: bool = False
    """Whether `return_documents: false` must be sent so that answers do not repeat the documents."""
    accepts: str = ""
    """Further fields that pass unchanged, separated by spaces."""
    source: str
    as_of: str = "2026-11-28"


RERANKS: Mapping[str, RerankRow] = {
    "cohere": RerankRow(
        max_documents=10_000,
        accepts="max_tokens_per_doc relevant_spans priority",
        source="cohere 7.3.1 (v2.rerank); docs.cohere.com, reranking best practices",
    ),
    "vllm": RerankRow(
        accepts="user priority truncate_prompt_tokens truncation_side use_activation mm_processor_kwargs cache_salt request_id",
        source="vLLM entrypoints/pooling/scoring/protocol.py (commit 004706d)",
    ),
    "llamacpp": RerankRow(source="llama.cpp tools/server README (commit 00dc805)"),
    "fireworks": RerankRow(
        returns_documents=True,
        accepts="task",
        source="docs.fireworks.ai, rerank documents (additionalProperties: false)",
    ),
    "together": RerankRow(source="together 3.1.1"),
    "local": RerankRow(source="xllamacpp 2026.10.11549"),
    "openrouter": RerankRow(accepts="provider", source="openrouter.ai/docs, create-rerank"),
}

ANY_RERANKER = RerankRow(accepts=" ".join(RERANK_FIELDS), source="Jina's and Cohere's request")
"""A server whose limits are unknown."""
