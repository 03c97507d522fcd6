"""Tools for a model whose template does not support them. A schema forces the call, which is then read back from the text.

    tool_choice required or named   a schema {name, arguments} forces the answer; the stream becomes tool call deltas
    tool_choice none                the tools are dropped, as requested
    otherwise                       the model cannot choose: the tools are dropped, or refused in strict mode
    earlier calls and results       sent as plain text

With `tools: true` (a model whose template supports tools), tools pass unchanged unless a call is forced or tool_choice is none.
"""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from providers.rules.messages import Message, MessageRule, join_content, text_of
from providers.rules.rule import Rule, Work

FORCED_TOOL_MEMO = "local.forced_tool"
"""Key of `Options.memo`: the answer is a tool call in JSON."""


class ForcedTools(Rule, frozen=True):
    """Adapts tools, tool_choice and parallel_tool_calls to an engine that cannot choose tools."""

    param: str = "tools"

    @property
    def params(self) -> tuple[str, ...]:
        return ("tools", "tool_choice", "parallel_tool_calls")

    def apply(self, work: Work) -> None:
        """Force a call with a schema, drop the tools, or pass them unchanged."""
        tools, choice = work.body.get("tools"), work.body.get("tool_choice")
        if not tools:
            if choice not in (None, "none", "auto"):
                raise work.refuse("tool_choice", "it requires 'tools'")
            _drop_tools(work, "neutral value")
            return
        for index, tool in enumerate(tools):
            if tool.get("type", "function") != "function":
                raise work.refuse(f"tools[{index}].type", "only functions are supported", "unsupported_parameter")
        if choice == "none":
            _drop_tools(work, "tool_choice is none")
        elif choice in (None, "auto"):
            if not work.settings.get("tools"):
                why = "the model's template does not support tools"
                work.report_lossy("tools", "drop", why, code="unsupported_parameter")
                work.body.pop("tools")
                _drop_tools(work, why)
        else:
            self._force(work, _callable_functions(work, tools, choice))

    def _force(self, work: Work, functions: list[dict[str, Any]]) -> None:
        body = work.body
        if body.get("response_format") is not None and body.get("response_format") != {"type": "text"}:
            work.report_lossy("response_format", "drop", "a tool call is forced", code="unsupported_combination")
        if body.get("logprobs") is True:
            work.report_lossy("logprobs", "drop", "a tool call has no logprobs", code="unsupported_combination")
            body.pop("logprobs")
            body.pop("top_logprobs")
        schema = {"type": "json_schema", "json_schema": {"name": "tool_call", "schema": call_schema(functions)}}
        body.set("response_format", schema)
        body.set("messages", _with_functions_named(body.get("messages"), functions))
        for name in ("tools", "tool_choice"):
            body.pop(name)
            work.report(name, "reshape", to="response_format", why="a schema forces the call")
        _drop_tools(work, "one call is forced")
        work.options.memo[FORCED_TOOL_MEMO] = True

    def describe(self) -> dict[str, dict[str, Any]]:
        return {
            "tools": {"support": "adjusted", "action": "reshape", "to": "response_format", "needs": "tool_choice required or named"},
            "tool_choice": {"support": "adjusted", "values": ["none", "required", "named"]},
            "parallel_tool_calls": {"support": "no", "why": "one call at a time"},
        }


def _drop_tools(work: Work, why: str) -> None:
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        if name in work.body:
            work.body.pop(name)
            work.report(name, "drop", why=why)


def _callable_functions(work: Work, tools: list[dict[str, Any]], choice: Any) -> list[dict[str, Any]]:
    """Return the functions that a forced call may name."""
    functions = [tool["function"] for tool in tools]
    if choice == "required":
        return functions
    if type(choice) is not dict or choice.get("type") != "function":
        raise work.refuse("tool_choice", "must be auto, none, required or a function by name")
    name = choice["function"]["name"]
    named = [function for function in functions if function["name"] == name]
    if not named:
        raise work.refuse("tool_choice", f"'tools' has no function {name[:80]!r}")
    return named[:1]


def call_schema(functions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of one call of one of `functions`. Parameters become definitions, so their references stay valid."""
    definitions: dict[str, Any] = {}
    calls = []
    for index, function in enumerate(functions):
        declared = function.get("parameters")
        parameters = declared if type(declared) is dict else {}
        definitions[f"f{index}"] = _relocated({"type": "object", **parameters}, f"#/$defs/f{index}")
        properties = {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/f{index}"}}
        calls.append({"type": "object", "properties": properties, "required": ["name", "arguments"], "additionalProperties": False})
    root = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**root, "$defs": definitions}


def _relocated(schema: Any, to: str) -> Any:
    """Return a schema whose internal references are below `to`."""
    if type(schema) is list:
        return [_relocated(part, to) for part in schema]
    if type(schema) is not dict:
        return schema
    return {
        name: to + value[1:] if name == "$ref" and type(value) is str and value.startswith("#") else _relocated(value, to)
        for name, value in schema.items()
    }


def _with_functions_named(messages: list[Message], functions: list[dict[str, Any]]) -> list[Message]:
    """Return the messages, with the functions named in the system message: the schema that forces the call is not part of the prompt."""
    lines = [_function_line(function) for function in functions]
    text = "\n".join(["Call this function with what the user asks for." if len(lines) == 1 else "Call the function that fits.", *lines])
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "content": join_content(messages[0].get("content") or "", text)}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _function_line(function: dict[str, Any]) -> str:
    parameters = function.get("parameters")
    properties = parameters.get("properties") if type(parameters) is dict else None
    names = ", ".join(properties) if type(properties) is dict else ""
    description = function.get("description")
    return f"{function['name']}({names})" + (f": {description}" if type(description) is str else "")


class ToolTurnsAsText(MessageRule, frozen=True):
    """Converts earlier tool calls and their results to plain text, unless the model's template supports tools."""

    words: ClassVar[tuple[bytes, ...]] = (b'"tool"', b'"tool_calls"', b'"function"', b'"function_call"')

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Turn a call into its JSON, and a result into a user message."""
        if work.settings.get("tools"):
            return None
        names: dict[str, str] = {}
        changed: list[Message] | None = None
        for index, message in enumerate(messages):
            plain = self._as_plain(message, names)
            if plain is not None:
                changed = changed or list(messages)
                changed[index] = plain
                param = f"messages[{index}].role" if plain["role"] != message.get("role") else f"messages[{index}].tool_calls"
                work.report(param, "role_map" if param.endswith("role") else "reshape", from_=message.get("role"), to=plain["role"])
        return changed

    def _as_plain(self, message: Message, names: dict[str, str]) -> Message | None:
        """Return the plain message for a message with a tool call or result, or None for any other message."""
        role, calls = message.get("role"), message.get("tool_calls")
        if role == "tool" or role == "function":
            name = message.get("name") or names.get(message.get("tool_call_id") or "", "the function")
            content = message.get("content")
            text = text_of(content) if type(content) is list else content
            return {"role": "user", "content": f"Result of {name}: {text}"}
        if role != "assistant" or not calls:
            return None
        texts = [message["content"]] if type(message.get("content")) is str and message["content"] else []
        for call in calls:
            function = call.get("function") or {}
            names[call["id"]] = str(function.get("name"))
            texts.append(json.dumps({"name": function.get("name"), "arguments": function.get("arguments")}, ensure_ascii=False))
        return {"role": "assistant", "content": "\n".join(texts)}


_OPENING = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)')


class CallReader:
    """Reads `{"name": ..., "arguments": {...}}` piece by piece: sets `name` first, and then returns the text of the arguments."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._text = ""
        self._depth = 0
        self._quoted = self._escaped = self._over = False

    def feed(self, text: str) -> str:
        """Return the next piece of the arguments: "" before they begin and after they end."""
        if self._over:
            return ""
        if self.name is None:
            self._text += text
            opening = _OPENING.match(self._text)
            if opening is None:
                return ""
            self.name = json.loads(opening[1])
            text = self._text[opening.end() :]
        for index, letter in enumerate(text):
            self._step(letter)
            if self._depth == 0:
                self._over = True
                return text[: index + 1]
        return text

    def _step(self, letter: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quoted:
            self._escaped = letter == "\\"
            self._quoted = letter != '"'
        elif letter == '"':
            self._quoted = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
