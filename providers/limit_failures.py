"""Errors about a limit of the model or of the account: the context window, money, and rates.

Vendors send them with many statuses and words. The sources, read on 2026-11-30, are errors that users quote in issues
(owner/repo#number), unless a line states another source.

    context   Gemini: "The input token count (N) exceeds the maximum number of tokens"; Vertex: "input token count is N but model
              only supports up to M"; xAI: "maximum prompt length is N"; Together, TGI: "`inputs` tokens + `max_new_tokens` must be
              <= N"; Ollama, with status 500: "prompt too long; exceeded max context length"; Cerebras: "reduce the length of the
              messages"; Moonshot: "exceeded model token limit: N" (MoonshotAI/kimi-cli#2011); Copilot: "prompt token count of N
              exceeds the limit of M", LM Studio: "tokens to keep from the initial prompt is greater than the context length"
              (both: earendil-works/pi, overflow.ts); vLLM: "The decoder prompt (length N) is longer than the maximum model length";
              GitHub Models: code tokens_limit_reached, "Max size: N tokens"; Zhipu: "Prompt exceeds max length"; Alibaba: "Range of
              input length should be"; OpenAI: "Input tokens exceed the configured limit"; Cohere: "size limit exceeded by N token"
    money     Anthropic: 400 "Your credit balance is too low" and "You have reached your specified API usage limits"
              (anthropics/claude-code#2127); xAI: 403 and 429 "used all available credits"; Fireworks: 412 "suspended, possibly due to
              reaching the monthly spending limit"; OpenRouter: 403 "Key limit exceeded (monthly limit)"; Moonshot: 429
              exceeded_current_quota_error; SiliconFlow: 403 "account balance is insufficient"; Alibaba: 400 Arrearage; new-api: 403
              insufficient_user_quota. Gemini sends "check your plan and billing" for limits per minute too, so these words decide nothing.
    rate      Groq: 413 with code rate_limit_exceeded for a request over its tokens per minute
    overload  Anthropic: overloaded_error; Moonshot: engine_overloaded_error; Groq: 498 "Flex tier capacity exceeded" (its docs)
"""

from __future__ import annotations

import re

CONTEXT_CODES = frozenset({
    "context_length_exceeded", "context_too_long", "context_window_exceeded", "exceed_context_size_error", "tokens_limit_reached",
    "model_max_prompt_tokens_exceeded", "model_context_window_exceeded", "prompt_too_long",
})  # fmt: skip
CONTEXT_STATUSES = frozenset({400, 413, 422, 500})
_CONTEXT_WORDS = (
    r"maximum context length|context[ _](?:length|window|size)[^.]{0,60}(?:exceed|limit|too)|exceed[^.]{0,80}context"
    r"|prompt is too long|too many (?:input )?tokens|input is too long|prompt too long|longer than the (?:model's )?context"
    r"|(?:input|prompt) token count[^.]{0,60}(?:exceed|only supports)|maximum prompt length"
    r"|`?inputs?`? tokens \+ `?max_(?:new_)?tokens`? must be|`?inputs`? must have less than \d+ tokens"
    r"|(?:input|prompt|sequence) length[^.]{0,60}exceeds? (?:the )?(?:model's )?(?:max|limit)|context overflow"
    r"|reduce the length of the (?:messages|prompt|input)|exceed(?:s|ed)? (?:the )?model(?:'s)? token limit"
    r"|(?:longer|greater|larger) than (?:the )?(?:model's )?(?:maximum )?(?:context|model|sequence|input|prompt) (?:length|window|size)"
    r"|exceeds? (?:the )?(?:model's )?max(?:imum)? (?:sequence|model|input|prompt) length|prompt exceeds max(?:imum)? length"
    r"|context length of only \d+|range of input length should be|max(?:imum)? size: \d+ tokens"
    r"|input tokens? exceeds? the configured limit|size limit exceeded by \d+ token"
    r"|(?:prompt|input)[^.]{0,40}tokens?[^.]{0,20}only supports|tokens? \(prompt \+ max_tokens\) exceeds?"
)
_QUOTA_CODES = frozenset({
    "insufficient_quota", "quota_exhausted", "daily_quota_exhausted", "quota_exceeded", "billing_error", "insufficient_balance",
    "billing_hard_limit_reached", "insufficient_credits", "payment_required", "exceeded_current_quota_error", "insufficient_user_quota",
    "pre_consume_token_quota_failed", "not_enough_balance", "arrearage", "spend_limit_reached", "key_spend_limit_exceeded", "creditserror",
})  # fmt: skip
"""Codes in lower case."""
_NO_CREDIT = (
    r"credit balance is too low|(?:insufficient|not enough) (?:credits?|balance|funds|account balance|quota)\b"
    r"|(?:balance|credits?|funds) (?:is |are |have been )?(?:insufficient|not enough|exhausted|depleted|used up)"
    r"|used all (?:of )?(?:its |your )?available credits|(?:run|ran) out of credits?|monthly (?:included )?credits"
    r"|monthly (?:usage |quota )?limit|(?:spend|spending|credit) limit|api usage limits?|\bkey limit exceeded"
    r"|billing (?:period|cycle)|in good standing|arrears|past due|failure to pay|余额不足|额度(?:不足|已用尽)|欠费"
)
QUOTA_STATUSES = frozenset({400, 401, 402, 403, 412, 429})
_RATE_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limit_reached"})
_RATE_WORDS = r"\b(?:tokens|requests) per (?:minute|hour|day)\b"
_OVERLOAD_CODES = frozenset({
    "overloaded_error", "engine_overloaded_error", "engine_overloaded", "server_is_overloaded", "capacity_exceeded",
})  # fmt: skip


def finds(words: str, message: str) -> bool:
    """Return whether a message matches. Python compiles the words on first use, which takes several milliseconds, and keeps the result."""
    return re.search(words, message, re.IGNORECASE) is not None


def is_context_overflow(status: int, words: set[str | None], message: str) -> bool:
    """Return whether the prompt does not fit the context window. `words` are the error's code and type."""
    return status in CONTEXT_STATUSES and (bool(words & CONTEXT_CODES) or finds(_CONTEXT_WORDS, message))


def is_out_of_credit(status: int, words: set[str | None], message: str) -> bool:
    """Return whether the account, or the credential's share of it, has no money left."""
    if status == 402:
        return True
    if status not in QUOTA_STATUSES:
        return False
    return not _QUOTA_CODES.isdisjoint(word.lower() for word in words if word) or finds(_NO_CREDIT, message)


def is_rate_limit(status: int, words: set[str | None], message: str) -> bool:
    """Return whether a 4xx other than 429 reports a limit of requests or tokens for a period."""
    return 400 <= status < 500 and (bool(words & _RATE_CODES) or (status == 413 and finds(_RATE_WORDS, message)))


def is_overload(status: int, words: set[str | None]) -> bool:
    """Return whether the upstream has no capacity at present. A 429 stays a rate limit, whatever its code."""
    return status == 498 or (status != 429 and bool(words & _OVERLOAD_CODES))
