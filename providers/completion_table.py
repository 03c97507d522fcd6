"""The fields of each vendor's completions endpoint. Every field is passed to servers that are not listed.

Sources, as of 2026-11-28: openai 3.52.0, cerebras-cloud-sdk 1.91.0, fireworks-ai 1.2.28, friendli 0.16.3 and together-py
(commit 00c8693), each from its completion_create_params or request body; docs.ollama.com on OpenAI compatibility;
xllamacpp 2026.10.11549, tried with each field.
"""

from __future__ import annotations

from collections.abc import Mapping

_OPENAI = (
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream stream_options "
    "suffix temperature top_p user"
)

COMPLETION_FIELDS: Mapping[str, str] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "cerebras": f"{_OPENAI} grammar_root min_tokens prompt_cache_key reasoning_format return_raw_tokens",
    "fireworks": (
        "model prompt context_length_exceeded_behavior echo echo_last frequency_penalty ignore_eos images logit_bias logprobs "
        "max_completion_tokens max_tokens metadata min_p mirostat_lr mirostat_target n perf_metrics_in_response prediction "
        "presence_penalty prompt_cache_isolation_key prompt_cache_key raw_output reasoning_effort reasoning_history "
        "repetition_penalty response_format return_token_ids seed service_tier speculation stop stream stream_options temperature "
        "thinking top_k top_logprobs top_p typical_p user"
    ),
    "together": (
        "model prompt echo frequency_penalty logit_bias logprobs max_tokens min_p n presence_penalty repetition_penalty "
        "safety_model stop stream temperature top_k top_p"
    ),
    "ollama": (
        "model prompt frequency_penalty logprobs max_tokens presence_penalty seed stop stream stream_options suffix temperature top_p"
    ),
    "friendli": (
        "model prompt tokens bad_word_tokens bad_words embedding_to_replace encoder_no_repeat_ngram encoder_repetition_penalty "
        "eos_token forced_output_tokens frequency_penalty logprobs max_tokens max_total_tokens min_p min_tokens "
        "min_total_tokens n no_repeat_ngram presence_penalty repetition_penalty response_format seed stop stop_tokens stream "
        "stream_options temperature token_index_to_replace top_k top_p xtc_threshold xtc_probability"
    ),
}  # fmt: skip

ENGINES = frozenset({"llamacpp", "local"})
"""Engines that accept every field but ignore `echo`, `suffix` and `best_of`, and that generate without end by default."""

ONE_TEXT = frozenset({"ollama", "together"})
"""Providers whose `prompt` is one text."""

TEXTS = frozenset({"friendli"})
"""Providers whose `prompt` is a text or a list of texts."""
