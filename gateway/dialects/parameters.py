"""Checks of a caller's parameters before a provider is known: types and ranges.

Each provider's rules (providers.rules) check for parameters that the provider does not support.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects import shapes
from gateway.dialects.described import Check, Schema, described
from gateway.dialects.field_checks import check_fields
from gateway.dialects.messages import check_messages
from gateway.errors import refuse, unreadable
from providers.base import Body

MAX_TOOLS = 1_024
MAX_STOP_STRINGS = 256
MAX_CHOICES = 128
"""The highest maximum of 'n' at any provider (Fireworks). Each provider's own maximum is one of its rules."""
MAX_LOGPROBS = 20
MAX_TOKENS = 2**31 - 1
MAX_NUMBER = 2**53
"""A bound for all numbers. Each provider's own range is one of its rules."""

_CONTROL = frozenset(map(chr, range(32))) - {"\t"} | {"\x7f"}
_LINE: Schema = {"type": "string", "pattern": r"^[^\x00-\x08\x0a-\x1f\x7f]*$"}
_NUMBER: Schema = {"type": "number", "minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}
_JSON_TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


def _typed(*types: type, what: str) -> Check:
    """Return a check for values of these types. A boolean is not a number."""
    allowed = frozenset(types)

    @described({"type": [_JSON_TYPES[each] for each in types]})
    def check(param: str, value: Any) -> None:
        if type(value) not in allowed:
            raise refuse(param, f"'{param}' must be {what}, not {_name(value)}.", "invalid_type")

    return check


def integer(low: int, high: int) -> Check:
    """Return a check for integers in this range, bounds included."""

    @described({"type": "integer", "minimum": low, "maximum": high})
    def check(param: str, value: Any) -> None:
        if type(value) is not int:
            raise refuse(param, f"'{param}' must be an integer, not {_name(value)}.", "invalid_type")
        if not low <= value <= high:
            raise refuse(param, f"'{param}' must be between {low} and {high}.")

    return check


@described(_NUMBER)
def _number(param: str, value: Any) -> None:
    if type(value) is not float and type(value) is not int:
        raise refuse(param, f"'{param}' must be a number, not {_name(value)}.", "invalid_type")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise refuse(param, f"'{param}' must be between -{MAX_NUMBER} and {MAX_NUMBER}.")


def _items(item: type, limit: int, what: str, *, single: bool = False) -> Check:
    """Return a check for a list of at most `limit` values of one type.

    `single` allows one value without a list.
    """
    several: Schema = {"type": "array", "items": {"type": _JSON_TYPES[item]}, "maxItems": limit}

    @described({"anyOf": [{"type": _JSON_TYPES[item]}, several]} if single else several)
    def check(param: str, value: Any) -> None:
        if single and type(value) is item:
            return
        if type(value) is not list:
            raise refuse(param, f"'{param}' must be {what}, not {_name(value)}.", "invalid_type")
        if len(value) > limit:
            raise refuse(param, f"'{param}' must have at most {limit} entries, not {len(value)}.")
        for index, element in enumerate(value):
            if type(element) is not item:
                path = f"{param}[{index}]"
                raise refuse(path, f"'{path}' must be {_names[item]}, not {_name(element)}.", "invalid_type")

    return check


_SEED: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


@described({"anyOf": [_SEED, {"type": "array", "items": _SEED, "maxItems": MAX_CHOICES}]})
def _seed(param: str, value: Any) -> None:
    seeds = value if type(value) is list else [value]
    if len(seeds) > MAX_CHOICES:
        raise refuse(param, f"'{param}' must have at most {MAX_CHOICES} seeds.")
    for seed in seeds:
        if type(seed) is not int:
            raise refuse(param, f"'{param}' must be an integer or a list of integers.", "invalid_type")
        if not -(2**63) <= seed < 2**63:
            raise refuse(param, f"'{param}' must fit in 64 bits.")


@described({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS}]})
def _logprobs(param: str, value: Any) -> None:
    """Check OpenAI's boolean, or the number of likely tokens that Fireworks and Together accept."""
    if type(value) is not bool and not (type(value) is int and 0 <= value <= MAX_LOGPROBS):
        raise refuse(param, f"'{param}' must be a boolean, or an integer from 0 to {MAX_LOGPROBS}.", "invalid_type")


@described({"type": "object", "additionalProperties": _NUMBER})
def _logit_bias(param: str, value: Any) -> None:
    _object(param, value)
    for token, bias in value.items():
        if type(bias) not in (int, float):
            raise refuse(param, f"'{param}[{token[:40]!r}]' must be a number, not {_name(bias)}.", "invalid_type")
        _number(param, bias)


@described(_LINE)
def _line(param: str, value: Any) -> None:
    """Check a string that may become part of a header or a log line: no control characters except tabs."""
    _string(param, value)
    if not value.isprintable() and not _CONTROL.isdisjoint(value):
        raise refuse(param, f"'{param}' must not contain control characters.")


@described({"type": "object", "additionalProperties": _LINE, "propertyNames": _LINE})
def _metadata(param: str, value: Any) -> None:
    _object(param, value)
    for key, text in value.items():
        _line(f"{param}.{key[:40]}", text)
        _line(param, key)


@described({"type": "object", "properties": {"include_usage": {"type": "boolean"}, "include_obfuscation": {"type": "boolean"}}})
def _stream_options(param: str, value: Any) -> None:
    _object(param, value)
    for key, option in value.items():
        if key in ("include_usage", "include_obfuscation"):
            _boolean(f"{param}.{key}", option)


@described(shapes.RESPONSE_FORMAT)
def _response_format(param: str, value: Any) -> None:
    _object(param, value)
    if type(value.get("type")) is not str:
        raise refuse(f"{param}.type", f"'{param}.type' must be a string such as 'json_object'.", "invalid_type")
    if value["type"] == "json_schema" and type(value.get("json_schema")) is not dict:
        raise refuse(f"{param}.json_schema", f"'{param}.json_schema' must be an object with a schema.", "invalid_type")
    schema = value["json_schema"].get("schema") if value["type"] == "json_schema" else None
    if type(schema) not in (dict, bool, type(None)):
        path = f"{param}.json_schema.schema"
        raise refuse(path, f"'{path}' must be a JSON Schema, not {_name(schema)}.", "invalid_type")
    if schema is False:
        raise refuse(f"{param}.json_schema.schema", "The schema 'false' allows no answer.")


@described({"type": "array", "items": shapes.TOOL, "maxItems": MAX_TOOLS})
def _tools(param: str, value: Any) -> None:
    _items(dict, MAX_TOOLS, "a list of tools")(param, value)
    for index, tool in enumerate(value):
        kind = tool.get("type")
        if kind is None:
            kind = "custom" if "custom" in tool and "function" not in tool else "function"
        if type(kind) is not str:
            raise refuse(f"{param}[{index}].type", f"'{param}[{index}].type' must be a string.", "invalid_type")
        if kind in ("function", "custom"):
            path = f"{param}[{index}].{kind}"
            if type(tool.get(kind)) is not dict:
                raise refuse(path, f"'{path}' must be an object with a name.", "invalid_type")
            _function(path, tool[kind])


def _function(path: str, function: dict[str, Any]) -> None:
    if type(function.get("name")) is not str:
        raise refuse(path, f"'{path}' must be an object with a name.", "invalid_type")
    if type(function.get("parameters")) not in (dict, type(None)):
        path = f"{path}.parameters"
        raise refuse(path, f"'{path}' must be an object with a JSON Schema.", "invalid_type")


@described({"type": "array", "items": shapes.FUNCTION, "maxItems": MAX_TOOLS})
def _functions(param: str, value: Any) -> None:
    _items(dict, MAX_TOOLS, "a list of functions")(param, value)
    for index, function in enumerate(value):
        _function(f"{param}[{index}]", function)


@described(shapes.TOOL_CHOICE)
def _tool_choice(param: str, value: Any) -> None:
    kind = value.get("type") if type(value) is dict else None
    if kind in ("function", "custom"):
        named = value.get(kind)
        if type(named) is not dict or type(named.get("name")) is not str:
            raise refuse(f"{param}.{kind}", f"'{param}.{kind}' must be an object with a name.", "invalid_type")
    elif type(value) is dict and type(value.get("type")) is not str:
        raise refuse(f"{param}.type", f"'{param}.type' must be a string.", "invalid_type")
    elif kind == "allowed_tools" and type(allowed := value.get(kind)) is dict:
        if (tools := allowed.get("tools")) is not None:
            _items(dict, MAX_TOOLS, "a list of tools")(f"{param}.{kind}.tools", tools)
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
_cap = integer(1, MAX_TOKENS)

CHECKS: dict[str, Check] = {
    "max_tokens": _cap,
    "max_completion_tokens": _cap,
    "min_tokens": integer(-1, MAX_TOKENS),  # at Cerebras, -1 means the maximum sequence length
    "min_completion_tokens": integer(-1, MAX_TOKENS),
    "prompt_truncate_len": _cap,
    "timeout_microseconds": integer(1, 2**53),
    "n": integer(1, MAX_CHOICES),
    "top_k": integer(-1, MAX_TOKENS),  # in vLLM, -1 turns top_k off
    "top_logprobs": integer(0, 1_000),
    "seed": _seed,
    "stop": _items(str, MAX_STOP_STRINGS, "a string or a list of strings", single=True),
    "temperature": _number,
    "top_p": _number,
    "min_p": _number,
    "x_delay_time": _number,
    "typical_p": _number,
    "repetition_penalty": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "stream": _boolean,
    "stream_options": _stream_options,
    "logprobs": _logprobs,
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
    "functions": _functions,
    "function_call": _typed(str, dict, what="a string or an object"),
    "reasoning_effort": _typed(str, int, bool, what="a string"),
    "verbosity": _string,
    "system_prompt": _string,
    "eos_token": _items(int, MAX_STOP_STRINGS, "a list of token ids"),
    "context_length_exceeded_behavior": _string,
    "modalities": _items(str, 8, "a list of strings"),
    "prediction": _typed(dict, str, what="an object or a string"),
    "audio": _object,
    "web_search_options": _object,
}


_DEPENDENT = frozenset({"top_logprobs", "min_tokens", "min_completion_tokens"})
"""Parameters whose values are checked against those of other parameters."""


def check_parameters(body: Body) -> None:
    """Check the known fields of a request without changing them. Raise BadRequest for the first error."""
    check_fields(body, CHECKS)
    if "messages" not in body:
        raise refuse("messages", "'messages' is required.", "missing_required_parameter")
    if body.plain_messages() is None:  # else nothing can be wrong with them
        check_messages(body.raw("messages") or b"null")
    if body.has_any(_DEPENDENT):
        if body.get("top_logprobs") and not body.get("logprobs"):
            raise refuse("top_logprobs", "'top_logprobs' requires 'logprobs': true.")
        _check_bounds_of_output(body)


def _check_bounds_of_output(body: Body) -> None:
    """Refuse a minimum of output tokens above the maximum: no answer satisfies both."""
    for low in ("min_tokens", "min_completion_tokens"):
        least = body.get(low) if low in body else None
        for high in ("max_tokens", "max_completion_tokens") if least is not None else ():
            most = body.get(high) if high in body else None
            if most is not None and least > most:
                raise refuse(low, f"'{low}' ({least}) must not exceed '{high}' ({most}).")


def read_model(body: Body) -> str:
    """Return the model of a body. Raise BadRequest unless it is a string that is not empty."""
    try:
        model = body.get("model")
    except msgspec.DecodeError as error:
        raise unreadable(error) from None
    if type(model) is not str or not model:
        code = "missing_required_parameter" if "model" not in body else "invalid_type"
        raise refuse("model", "'model' must be the name of a model, as a string.", code)
    return model

