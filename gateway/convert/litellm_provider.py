"""The providers of LiteLLM's deployments: types, addresses and credentials.

Source: docs.litellm.ai (proxy configuration and providers), as of 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TYPES: Mapping[str, str] = {
    "openai": "openai", "text-completion-openai": "openai", "custom_openai": "openai-compatible", "openai_like": "openai-compatible",
    "azure": "azure", "azure_text": "azure", "anthropic": "anthropic", "anthropic_text": "anthropic", "gemini": "gemini",
    "groq": "groq", "mistral": "mistral", "codestral": "mistral", "cohere": "cohere", "cohere_chat": "cohere",
    "together_ai": "together", "fireworks_ai": "fireworks", "deepseek": "deepseek", "xai": "xai", "openrouter": "openrouter",
    "cerebras": "cerebras", "friendliai": "friendli", "ollama": "ollama", "ollama_chat": "ollama", "vllm": "vllm",
    "hosted_vllm": "vllm", "llamafile": "llamacpp", "lm_studio": "openai-compatible",
}  # fmt: skip
"""Provider types by LiteLLM's prefixes."""
ADDRESSES: Mapping[str, str] = {
    "perplexity": "https://api.perplexity.ai",
    "nvidia_nim": "https://integrate.api.nvidia.com/v1",
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "sambanova": "https://api.sambanova.ai/v1",
    "moonshot": "https://api.moonshot.ai/v1",
    "novita": "https://api.novita.ai/v3/openai",
    "hyperbolic": "https://api.hyperbolic.xyz/v1",
}
"""Addresses of vendors that have no type of their own and offer OpenAI's API."""
KEYLESS = frozenset({"ollama", "vllm", "llamacpp", "openai-compatible"})
_BY_NAME = (
    (re.compile(r"(gpt|chatgpt|text-embedding|o\d)(-|$)|davinci|babbage"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"command-"), "cohere"),
)
_VERSION = re.compile(r"/v\d+(beta\d*)?(/|$)")


def split_model(model: str) -> tuple[str, str]:
    """Return LiteLLM's prefix and the model's name without it.

    If the name has no known prefix, the prefix is derived from the name or is "".
    """
    prefix, slash, name = model.partition("/")
    if slash and (prefix in TYPES or prefix in ADDRESSES):
        return prefix, name
    return next((kind for pattern, kind in _BY_NAME if pattern.match(model)), ""), model


def base_url(kind: str, address: str) -> str:
    """Return an address with the path that a provider type needs."""
    address = address.rstrip("/")
    if kind == "azure":
        return address if "/openai" in address else f"{address}/openai/v1"
    return address if _VERSION.search(address) or kind == "openai-compatible" else f"{address}/v1"
