"""Request headers that vendors define besides credentials, and the providers that get them from a caller.

As of 2026-11. A header that a provider does not get is reported, and refused in strict mode, because the caller set it for
a purpose. The table contains no credentials, so none is ever forwarded. An account id (organization, team, workspace) is
sent only to the vendor that issued it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CALLER_HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    # developers.openai.com/api/reference/overview (authentication, debugging requests); openai 3.52.0
    "openai": ("openai-organization", "openai-project", "openai-beta", "x-client-request-id", "idempotency-key"),
    # learn.microsoft.com, "Azure OpenAI monitoring": echoed and logged
    "azure": ("x-ms-client-request-id",),
    # anthropic 2.11.0
    "anthropic": ("anthropic-beta", "anthropic-workspace-id", "anthropic-user-profile-id"),
    # cerebras-cloud-sdk 1.91.0; inference-docs.cerebras.ai (service tiers, versions); @ai-sdk/cerebras 3.0.85
    "cerebras": (
        "cf-ray", "x-amz-cf-id", "x-delay-time", "queue_threshold", "x-cerebras-version-patch", "x-cerebras-3rd-party-integration",
    ),
    # fireworks-ai 1.2.28; docs.fireworks.ai/guides/rollout-inference
    "fireworks": ("x-session-affinity", "x-multi-turn-session-id", "x-prompt-cache-isolation-key"),
    # friendli 0.16.5
    "friendli": ("x-friendli-team",),
    # console.groq.com/docs/changelog/compound
    "groq": ("groq-model-version", "groq-beta"),
    # docs.x.ai/developers/advanced-api-usage/prompt-caching
    "xai": ("x-grok-conv-id",),
    # openrouter.ai/docs/api-reference/overview, openrouter.ai/docs/app-attribution
    "openrouter": (
        "http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories", "x-anthropic-beta", "x-session-id",
    ),
    # wiki.siati.ai (headers)
    "siati": ("x-siati-tier", "x-siati-user"),
    # ai.google.dev: the project that is charged for quota
    "gemini": ("x-goog-user-project",),
    # docs.vllm.ai/serving/data_parallel_deployment
    "vllm": ("x-data-parallel-rank",),
    # cohere 7.3.1
    "cohere": ("x-client-name",),
})  # fmt: skip
"""The headers (lower case) that each provider type gets from callers."""

NOT_FORWARDED: frozenset[str] = frozenset({"anthropic-version"})
"""Headers that a vendor defines and that only the configuration or a native call can set, because the rules depend on them."""

NOT_REPORTED: frozenset[str] = frozenset({"cf-ray", "x-amz-cf-id", "x-session-id"})
"""Headers that proxies add to every request, or that the gateway itself uses: nothing is lost where a provider lacks them."""

VENDOR_HEADERS: frozenset[str] = frozenset(NOT_FORWARDED).union(*CALLER_HEADERS.values())
"""All headers that vendors define, forwarded or not."""

VENDOR_PREFIXES: tuple[str, ...] = (
    "anthropic-", "cohere-", "fireworks-", "groq-", "openai-", "x-anthropic-", "x-cerebras-", "x-cohere-", "x-deepseek-", "x-fireworks-",
    "x-friendli-", "x-grok-", "x-groq-", "x-mistral-", "x-openai-", "x-openrouter-", "x-siati-", "x-together-", "x-xai-",
)
"""Prefixes that only the headers of a vendor of models have. A header with one of them that is not in the table is reported as well.

The prefixes of clouds (`x-amz-`, `x-goog-`, `x-ms-`) are absent, because their clients and proxies add such headers to every request.
"""

WITHOUT_EFFECT: tuple[str, ...] = ("anthropic-dangerous-direct-browser-access", "x-openai-memgen-request", "x-openai-sub")
"""Beginnings of headers that clients add by themselves, and that change no answer. The first one is for browsers
(kiss-translator#292), and the others name the part of Codex that calls. Nothing is lost where a provider does not get them."""

MERGED: frozenset[str] = frozenset({"anthropic-beta", "x-anthropic-beta", "openai-beta", "x-openrouter-categories"})
"""Headers whose value is a list: the values of the configuration and those of the caller are sent together."""

NUMBERS: frozenset[str] = frozenset({"x-delay-time", "queue_threshold", "x-data-parallel-rank"})
"""Headers whose value is a number."""

CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType({"x-siati-tier": ("slow", "medium", "fast", "ludicrous")})
"""The allowed values of headers that accept only certain values."""

SETTINGS_THAT_WIN: Mapping[str, str] = MappingProxyType({"anthropic-workspace-id": "workspace"})
"""Headers that a caller cannot replace if the named setting of the provider is set. Other settings are only defaults."""
