"""Reads the usage of an answer or an event, even of a failed one, in the format of any API."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.anthropic.answers import service_tier
from providers.cohere.answers import openai_usage
from providers.token_usage import Usage
from providers.usage import COST_FIELDS, read_count, read_usage


class ReportedUsage(msgspec.Struct):
    """The fields of an answer that concern its usage. Events of the Responses API have them in `response`, events of Cohere in `delta`."""

    usage: Any = None
    model: Any = None
    object: Any = None
    service_tier: Any = None

    def read(self) -> Usage | None:
        """Return the usage, or None if it is missing or implausible. If only a total is reported, it counts as prompt."""
        if type(self.usage) is not dict:
            return None
        usage = read_usage(_as_chat_usage(self.usage), self.service_tier or service_tier(self.usage))
        if usage is not None and usage.unsplit_tokens:
            return msgspec.structs.replace(usage.estimate(usage.unsplit_tokens, 0), reported_cost=usage.reported_cost)
        return usage


class _Reporting(ReportedUsage):
    response: Any = None
    delta: Any = None


_decode = msgspec.json.Decoder(_Reporting).decode


def usage_of_failure(data: bytes) -> Usage | None:
    """Return the usage that a failed answer or an event with a failure reports, or None if it reports none."""
    try:
        found = _decode(data)
        inner = next((each for each in (found.response, found.delta) if type(each) is dict and each.get("usage")), None)
        usage = found.read() if inner is None else msgspec.convert(inner, ReportedUsage).read()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return usage if usage is not None and usage.is_counted else None


def _as_chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return a usage of Cohere, Anthropic or the Responses API in the form of a chat completion. Return any other unchanged."""
    if "tokens" in usage or "billed_units" in usage:
        return openai_usage(usage) or {}
    if "input_tokens" not in usage:
        return usage
    prompt, output = read_count(usage["input_tokens"]), usage.get("output_tokens", 0)
    read, written = (read_count(usage.get(f"cache_{name}_input_tokens")) or 0 for name in ("read", "creation"))
    details = usage.get("input_tokens_details") or usage.get("input_token_details")  # the realtime API uses the second name
    details = details if type(details) is dict else {}
    if prompt is not None:
        prompt += read + written  # Anthropic does not include cached tokens in `input_tokens`
    return {
        **{name: usage[name] for name in (*COST_FIELDS, "cache_creation") if name in usage},
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": usage.get("total_tokens"),
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written, **details},
        "completion_tokens_details": usage.get("output_tokens_details") or usage.get("output_token_details"),
    }
