"""The caller's parameters in canonical form, before any provider is known: right types, sane values, whole messages.

What a provider cannot do is not decided here; that is the provider's rules (providers.rules).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.dialects.messages import check_messages
from gateway.errors import refuse, unreadable
from providers.base import Body

Check = Callable[[str, Any], None]

MAX_TOOLS = 1_024
MAX_STOP_STRINGS = 256
MAX_CHOICES = 128
"""The most any provider takes natively (Fireworks); each provider's own bound is its rule."""
MAX_TOKENS = 2**31 - 1
MAX_NUMBER = 2**53
"""No setting means more than that; each provider's own range is its rule."""

FORBIDDEN_FIELDS = frozenset({
    "api_base", "base_url", "api_key", "api_type", "api_version", "extra_headers", "extra_query", "headers", "timeout",
    "user_config", "chat_template", "chat_template_file", "template", "proxy", "proxies", "credential", "credentials",
    "command", "module", "plugin_path", "file", "callback", "callback_url", "webhook_url",
})  # fmt: skip
"""Fields that name an address, a credential, a command, a template or a file: those come from the configuration alone."""

_CONTROL = frozenset(map(chr, range(32))) - {"\t"} | {"\x7f"}


def _typed(*types: type, what: str) -> Check:
    """The value is of one of `types`; a bool is not a number."""
    allowed = frozenset(types)

    def check(param: str, value: Any) -> None:
        if type(value) not in allowed:
            raise refuse(param, f"'{param}' must be {what}, not {_name(value)}.", "invalid_type")

    return check


def _integer(low: int, high: int) -> Check:
    def check(param: str, value: Any) -> None:
        if type(value) is not int:
            raise refuse(param, f"'{param}' must be an integer, not {_name(value)}.", "invalid_type")
        if not low <= value <= high:
            raise refuse(param, f"'{param}' must be between {low} and {high}.")

    return check


def _number(param: str, value: Any) -> None:
    if type(value) is not float and type(value) is not int:
        raise refuse(param, f"'{param}' must be a number, not {_name(value)}.", "invalid_type")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise refuse(param, f"'{param}' must be between -{MAX_NUMBER} and {MAX_NUMBER}.")


def _items(item: type, limit: int, what: str, *, single: bool = False) -> Check:
    """A list of at most `limit` values of one type; `single` allows the bare value as well."""

    def check(param: str, value: Any) -> None:
        if single and type(value) is item:
            return
        if type(value) is not list:
            raise refuse(param, f"'{param}' must be {what}, not {_name(value)}.", "invalid_type")
        if len(value) > limit:
            raise refuse(param, f"'{param}' takes at most {limit} entries, not {len(value)}.")
        for at, one in enumerate(value):
            if type(one) is not item:
                raise refuse(f"{param}[{at}]", f"'{param}[{at}]' must be {_names[item]}, not {_name(one)}.", "invalid_type")

    return check


def _seed(param: str, value: Any) -> None:
    seeds = value if type(value) is list else [value]
    if len(seeds) > MAX_CHOICES:
        raise refuse(param, f"'{param}' takes at most {MAX_CHOICES} seeds.")
    for seed in seeds:
        if type(seed) is not int:
            raise refuse(param, f"'{param}' must be an integer or a list of integers.", "invalid_type")
        if not -(2**63) <= seed < 2**63:
            raise refuse(param, f"'{param}' must fit in 64 bits.")


def _logit_bias(param: str, value: Any) -> None:
    _object(param, value)
    for token, bias in value.items():
        if type(bias) not in (int, float):
            raise refuse(param, f"'{param}[{token[:40]!r}]' must be a number, not {_name(bias)}.", "invalid_type")
        _number(param, bias)


def _line(param: str, value: Any) -> None:
    """A string that could end up in a header or a log line: no control characters."""
    _string(param, value)
    if not value.isprintable() and not _CONTROL.isdisjoint(value):
        raise refuse(param, f"'{param}' must not contain control characters.")


def _metadata(param: str, value: Any) -> None:
    _object(param, value)
    for key, one in value.items():
        _line(f"{param}.{key[:40]}", one)
        _line(param, key)


def _stream_options(param: str, value: Any) -> None:
    _object(param, value)
    for key, one in value.items():
        if key in ("include_usage", "include_obfuscation"):
            _boolean(f"{param}.{key}", one)


def _response_format(param: str, value: Any) -> None:
    _object(param, value)
    if type(value.get("type")) is not str:
        raise refuse(f"{param}.type", f"'{param}.type' must be a string such as 'json_object'.", "invalid_type")
    if value["type"] == "json_schema" and type(value.get("json_schema")) is not dict:
        raise refuse(f"{param}.json_schema", f"'{param}.json_schema' must be an object with a schema.", "invalid_type")


def _tools(param: str, value: Any) -> None:
    _items(dict, MAX_TOOLS, "a list of tools")(param, value)
    for at, tool in enumerate(value):
        kind = tool.get("type", "function")
        if type(kind) is not str:
            raise refuse(f"{param}[{at}].type", f"'{param}[{at}].type' must be a string.", "invalid_type")
        if kind == "function":
            function = tool.get("function")
            if type(function) is not dict or type(function.get("name")) is not str:
                raise refuse(f"{param}[{at}].function", f"'{param}[{at}].function' must be an object with a name.", "invalid_type")


def _tool_choice(param: str, value: Any) -> None:
    if type(value) is dict and value.get("type") == "function":
        function = value.get("function")
        if type(function) is not dict or type(function.get("name")) is not str:
            raise refuse(f"{param}.function", f"'{param}.function' must be an object with a name.", "invalid_type")
    elif type(value) is dict and type(value.get("type")) is not str:
        raise refuse(f"{param}.type", f"'{param}.type' must be a string.", "invalid_type")
    else:
        _typed(str, dict, what="a string or an object")(param, value)


_names: dict[type, str] = {
    str: "a string", int: "an integer", float: "a number", bool: "a boolean", dict: "an object", list: "a list", type(None): "null",
}  # fmt: skip


def _name(value: Any) -> str:
    return _names.get(type(value), "something else")


_boolean = _typed(bool, what="a boolean")
_string = _typed(str, what="a string")
_object = _typed(dict, what="an object")
_cap = _integer(1, MAX_TOKENS)

CHECKS: dict[str, Check] = {
    "max_tokens": _cap,
    "max_completion_tokens": _cap,
    "min_tokens": _integer(-1, MAX_TOKENS),  # -1 is Cerebras' word for the maximum sequence length
    "min_completion_tokens": _integer(-1, MAX_TOKENS),
    "prompt_truncate_len": _cap,
    "timeout_microseconds": _integer(1, 2**53),
    "n": _integer(1, MAX_CHOICES),
    "top_k": _integer(-1, MAX_TOKENS),  # -1 is vLLM's word for off
    "top_logprobs": _integer(0, 1_000),
    "seed": _seed,
    "stop": _items(str, MAX_STOP_STRINGS, "a string or a list of strings", single=True),
    "temperature": _number,
    "top_p": _number,
    "min_p": _number,
    "typical_p": _number,
    "repetition_penalty": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "stream": _boolean,
    "stream_options": _stream_options,
    "logprobs": _boolean,
    "parallel_tool_calls": _boolean,
    "store": _boolean,
    "ignore_eos": _boolean,
    "include_stop_str_in_output": _boolean,
    "user": _line,
    "safety_identifier": _line,
    "prompt_cache_key": _line,
    "service_tier": _line,
    "metadata": _metadata,
    "logit_bias": _logit_bias,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "functions": _items(dict, MAX_TOOLS, "a list of functions"),
    "function_call": _typed(str, dict, what="a string or an object"),
    "reasoning_effort": _typed(str, int, bool, what="a string"),
    "verbosity": _string,
    "system_prompt": _string,
    "eos_token": _items(int, MAX_STOP_STRINGS, "a list of token ids"),
    "context_length_exceeded_behavior": _string,
    "modalities": _items(str, 8, "a list of strings"),
    "prediction": _object,
    "audio": _object,
    "web_search_options": _object,
}


def check_parameters(body: Body) -> None:
    """Check every field that we know; BadRequest naming the first that is wrong. Nothing is changed."""
    for name in body:
        check = CHECKS.get(name)
        if check is not None:
            _check_field(body, name, check)
        elif name in FORBIDDEN_FIELDS:
            raise refuse(name, f"'{name}' is set by the gateway's configuration, not by a request.", "unsupported_parameter")
    if "messages" not in body:
        raise refuse("messages", "'messages' is required.", "missing_required_parameter")
    check_messages(body.raw("messages") or b"null")
    if "top_logprobs" in body and body.get("top_logprobs") and body.get("logprobs") is not True:
        raise refuse("top_logprobs", "'top_logprobs' needs 'logprobs': true.")


def read_model(body: Body) -> str:
    """The model that the body asks for; BadRequest when it names none."""
    try:
        model = body.get("model")
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    if type(model) is not str or not model:
        code = "missing_required_parameter" if "model" not in body else "invalid_type"
        raise refuse("model", "'model' must be a string that names a model of this gateway.", code)
    return model


def _check_field(body: Body, name: str, check: Check) -> None:
    try:
        value = body.get(name)
    except msgspec.DecodeError as error:
        raise refuse(name, f"'{name}' has a value that cannot be read: {error}.") from None
    if value is not None:
        check(name, value)
