"""A request with every canonical parameter."""

from __future__ import annotations

from typing import Any

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather by city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}

MESSAGES: list[dict[str, Any]] = [
    {"role": "developer", "content": "Answer in JSON."},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "ann"},
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    {"role": "user", "content": "And now?"},
]

EVERYTHING: dict[str, Any] = {
    "messages": MESSAGES,
    "stream_options": {"include_usage": True},
    "max_tokens": 4096,
    "max_completion_tokens": 3000,
    "min_tokens": 2,
    "min_completion_tokens": 2,
    "temperature": 1.9,
    "top_p": 1.0,
    "top_k": 4000,
    "min_p": 0.05,
    "typical_p": 0.9,
    "frequency_penalty": 1.5,
    "presence_penalty": -1.5,
    "repetition_penalty": 0.7,
    "seed": 7,
    "n": 2,
    "stop": ["a", "b", "c", "d", "e", "f"],
    "logit_bias": {"5": 101},
    "logprobs": True,
    "top_logprobs": 50,
    "response_format": {"type": "json_schema", "json_schema": {"name": "out", "strict": True, "schema": SCHEMA}},
    "tools": [WEATHER],
    "tool_choice": "required",
    "parallel_tool_calls": True,
    "functions": [{"name": "f"}],
    "function_call": "auto",
    "user": "u-1",
    "safety_identifier": "s-1",
    "prompt_cache_key": "k",
    "prompt_cache_isolation_key": "i",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "default",
    "reasoning_effort": "max",
    "verbosity": "low",
    "prediction": {"type": "content", "content": "x"},
    "modalities": ["text"],
    "audio": {"voice": "v", "format": "wav"},
    "web_search_options": {},
    "system_prompt": "Be brief.",
    "prompt_truncate_len": 1000,
    "context_length_exceeded_behavior": "truncate",
    "timeout_microseconds": 20_000_000,
    "eos_token": [2],
    "ignore_eos": True,
    "controller": {"interventions": [], "scopes": []},
    "filter_vocabulary": ["a"],
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "reasoning_budget": 2048,
    "reasoning_format": "parsed",
    "include_reasoning": True,
    "disable_reasoning": True,
    "clear_thinking": True,
    "chat_template_kwargs": {"a": 1},
    "xtc_threshold": 0.1,
    "xtc_probability": 0.1,
    "mirostat": 1,
    "mirostat_target": 5.0,
    "mirostat_lr": 0.1,
    "echo": True,
    "safe_prompt": True,
    "team": "T1",
    "cf_ray": "r",
    "x_amz_cf_id": "a",
    "x_delay_time": 0.5,
    "idempotency_key": "0b9f",
    "perf_metrics_in_response": True,
    "frobnicate": 1,
}

REFUSED: dict[str, dict[str, Any]] = {
    "goodfire": {
        "tools": None,
        "functions": None,
        "messages": [message for message in MESSAGES if message["role"] in ("developer", "user")],
    },
    "fireworks": {"thinking": None},
}
"""The parameters that each type refuses in both modes, with the value that it accepts, or None to leave the parameter out.

See goodfire-tools-rejected and fireworks-thinking-and-effort-rejected in the vectors.
"""


def everything_for(kind: str) -> dict[str, Any]:
    """Return the request without the parameters and messages that the provider refuses in both modes."""
    changes = REFUSED.get(kind, {})
    return {name: changes.get(name, value) for name, value in EVERYTHING.items() if changes.get(name, value) is not None}
