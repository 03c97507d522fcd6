"""The limits of each provider's embeddings endpoint. Every row names its source and the date on which it was read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class EmbeddingRow(msgspec.Struct, frozen=True, kw_only=True):
    """The embeddings endpoint of one provider."""

    max_inputs: int | None = None
    """Maximum number of inputs in one request. Longer lists are sent in several requests."""
    max_tokens: int | None = None
    """Maximum number of tokens of all inputs in one request."""
    max_token_arrays: int | None = None
    """Maximum number of token arrays in one request: 0 if the provider accepts only text, None if `max_inputs` applies."""
    max_flat_tokens: int | None = None
    """Maximum length of a token array that is not inside a list. Longer ones are sent inside a list."""
    formats: tuple[str, ...] = ("float", "base64")
    """The values of `encoding_format` that may be sent. The gateway converts vectors to other formats."""
    dimensions: str | None = "dimensions"
    """The provider's name for `dimensions`, or None if the length of vectors cannot be chosen."""
    dimension_values: tuple[int, ...] = ()
    """The allowed lengths; empty if every length is allowed."""
    fixed_models: tuple[str, ...] = ()
    """Beginnings of the names of models whose vectors have a fixed length."""
    accepts: str = ""
    """Further fields that pass unchanged, separated by spaces."""
    source: str
    as_of: str


_OPENAI = EmbeddingRow(
    max_inputs=2048,
    max_tokens=300_000,
    max_flat_tokens=2048,
    fixed_models=("text-embedding-ada-002",),
    accepts="user",
    source="OpenAI's API reference; openai 3.52.0",
    as_of="2026-11-28",
)

EMBEDDINGS: Mapping[str, EmbeddingRow] = {
    "openai": _OPENAI,
    "azure": msgspec.structs.replace(_OPENAI, source="Azure's v1 reference: the limits are OpenAI's; openai 3.52.0"),
    "mistral": EmbeddingRow(
        max_inputs=256,
        max_token_arrays=0,
        dimensions="output_dimension",
        accepts="output_dtype metadata",
        source="docs.mistral.ai/api/endpoint/embeddings; maximum measured by rig-core 0.42.0",
        as_of="2026-11-28",
    ),
    "cohere": EmbeddingRow(
        max_inputs=96,
        max_token_arrays=0,
        formats=(),
        dimensions="output_dimension",
        dimension_values=(256, 512, 1024, 1536),
        fixed_models=("embed-english-", "embed-multilingual-"),
        accepts="input_type truncate max_tokens priority",
        source="docs.cohere.com/reference/embed (v2)",
        as_of="2026-11-28",
    ),
    "gemini": EmbeddingRow(
        max_inputs=100,
        max_token_arrays=0,
        formats=("float",),
        source="ai.google.dev/gemini-api/docs/openai; maximum from LEANN#214",
        as_of="2026-11-28",
    ),
    "together": EmbeddingRow(
        max_token_arrays=0,
        formats=(),
        dimensions=None,
        source="together 3.1.1",
        as_of="2026-11-28",
    ),
    "fireworks": EmbeddingRow(
        max_inputs=2048,
        max_token_arrays=0,
        formats=(),
        accepts="prompt_template return_logits normalize",
        source="docs.fireworks.ai, create embeddings (additionalProperties: false)",
        as_of="2026-11-28",
    ),
    "siati": EmbeddingRow(
        max_inputs=32,
        max_token_arrays=0,
        dimensions=None,
        source="wiki.siati.ai/api/embeddings (2026-05-19)",
        as_of="2026-11-28",
    ),
    "friendli": EmbeddingRow(
        max_token_arrays=1,
        dimensions=None,
        source="friendli 0.16.3, dedicated endpoints",
        as_of="2026-11-28",
    ),
    "openrouter": EmbeddingRow(
        accepts="user provider input_type",
        source="openrouter.ai/docs, CreateEmbeddingsRequest",
        as_of="2026-11-28",
    ),
    "vllm": EmbeddingRow(
        accepts="user",
        source="vLLM entrypoints/pooling/base/protocol.py (commit 020638a)",
        as_of="2026-11-28",
    ),
    "ollama": EmbeddingRow(
        max_token_arrays=0,
        source="ollama openai/openai.go, server/routes.go",
        as_of="2026-11-28",
    ),
    "llamacpp": EmbeddingRow(
        dimensions=None,
        source="llama.cpp tools/server (format_embeddings_response_oaicompat)",
        as_of="2026-11-28",
    ),
    "local": EmbeddingRow(
        dimensions=None,
        source="xllamacpp 2026.10.11549",
        as_of="2026-11-28",
    ),
}  # fmt: skip

ANY_SERVER = EmbeddingRow(accepts="user", source="OpenAI's API reference", as_of="2026-11-28")
"""A server whose limits are unknown."""
