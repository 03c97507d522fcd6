"""Adapts messages, content parts and tool calls: converts fields that the vendor rejects, or drops and reports them.

Empty leftovers (null, "", [], the index of a call) are dropped even in strict mode, because nothing is lost.
"""

from __future__ import annotations

import re
from typing import Any, cast

from providers.base import Action
from providers.rules.attachments import flat_part, registered, text_in
from providers.rules.custom_tools import call_as_function, is_custom
from providers.rules.message_row import OTHER_VENDORS_FIELDS, MessageRow
from providers.rules.messages import Message, image_url, text_of
from providers.rules.rule import Work
from providers.tool_calls import json_text

MAX_LISTED = 8
"""Maximum number of adjustments of one kind that are listed one by one. One more entry gives the number of the others."""
NEUTRAL = "neutral value"
NO_FIELD = "no such field"
_TEXT_PART = {"type", "text"}
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_REASONING = ("reasoning_content", "reasoning")


class Report:
    """Reports changes to messages. Of many changes of one kind, only the first MAX_LISTED are listed one by one."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._counts: dict[tuple[str, str, str], int] = {}

    def change(self, index: int, field: str, action: Action, why: str = "", *, from_: Any = None, to: Any = None) -> None:
        """Report a change of a field of messages[index] that loses nothing."""
        if self._is_listed(field, action, why):
            self.work.report(f"messages[{index}]{field}", action, from_=from_, to=to, why=why)

    def loss(self, index: int, field: str, action: Action, why: str, *, code: str = "unsupported_parameter", to: Any = None) -> None:
        """Report a lossy change. Raise Refusal in strict mode."""
        if self.work.strict or self._is_listed(field, action, why):
            self.work.report_lossy(f"messages[{index}]{field}", action, why, to=to, code=code)

    def drop(self, index: int, field: str, value: Any, why: str = NO_FIELD) -> None:
        """Report a dropped field. Dropping an empty value loses nothing."""
        if value in (None, "", [], {}):
            self.change(index, field, "drop", NEUTRAL)
        else:
            self.loss(index, field, "drop", why)

    def finish(self) -> None:
        """Report the number of changes that were not listed."""
        for (field, action, why), count in self._counts.items():
            if count > MAX_LISTED:
                more = f"{count - MAX_LISTED} more of these"
                self.work.report(f"messages[]{field}", cast("Action", action), why=f"{why}; {more}" if why else more)

    def _is_listed(self, field: str, action: str, why: str) -> bool:
        key = (re.sub(r"\d+", "", field), action, why)
        self._counts[key] = count = self._counts.get(key, 0) + 1
        return count <= MAX_LISTED


class FieldPass:
    """Converts the fields of messages, one message at a time, to the fields that one row allows."""

    def __init__(self, row: MessageRow, reasoning: str, report: Report) -> None:
        self.row = row
        self.reasoning = reasoning
        self.report = report
        self._allowed = {role: row.fields_of(role) for role in ("system", "developer", "user", "tool", "function")}
        self._allowed["assistant"] = row.fields_of("assistant") | {reasoning}

    def clean(self, index: int, message: Message) -> Message:
        """Return the message with only the fields that the vendor accepts, or the same object if nothing changes."""
        result = dict(message)
        role = str(message.get("role"))
        if type(message.get("content")) is list:
            self._parts(index, result)
        if role == "assistant":
            self._reasoning(index, result)
            self._refusal(index, result)
            self._calls(index, result)
        self._cache(index, result)
        if self.row.unknown == "pass":
            self._empties(index, result)
        else:
            self._fields(index, result, self._allowed[role])
        content = result.get("content")
        if content == [] and self.row.unknown != "pass":
            result["content"] = ""
            self.report.change(index, ".content", "reshape", "an empty list is sent as an empty text")
        elif role in self.row.joins and type(content) is list and content and all(part.get("type") == "text" for part in content):
            result["content"] = text_of(content)
            self.report.change(index, ".content", "reshape", "lists of texts are joined into a string")
        return message if result == message else result

    def _fields(self, index: int, message: Message, allowed: frozenset[str]) -> None:
        for name in [name for name, value in message.items() if name not in allowed or (value is None and not self._may_be_null(name))]:
            value = message[name]
            if self.row.unknown == "new" and name not in OTHER_VENDORS_FIELDS and value is not None:
                continue
            if name == "function_call" and value and not self.row.has_tools:
                continue
            del message[name]
            self.report.drop(index, f".{name}", value)

    def _empties(self, index: int, message: Message) -> None:
        for name in [name for name, value in message.items() if name != "content" and value in (None, [])]:
            self.report.drop(index, f".{name}", message.pop(name))

    def _may_be_null(self, name: str) -> bool:
        return name == "content" or name in self.row.assistant

    def _parts(self, index: int, message: Message) -> None:
        parts: list[Any] = message["content"]
        if all(part.keys() == _TEXT_PART for part in parts):
            return
        if message.get("role") in self.row.text_roles:
            self._check_texts(index, parts)
        message["content"] = [self._part(index, number, part) for number, part in enumerate(parts)]

    def _check_texts(self, index: int, parts: list[Any]) -> None:
        for number, part in enumerate(parts):
            kind = part.get("type")
            if kind not in ("text", "refusal", "thinking"):
                why = f"content of type {str(kind)[:40]!r} is supported in user messages only"
                raise self.report.work.refuse(f"messages[{index}].content[{number}]", why, "unsupported_content")

    def _part(self, index: int, number: int, part: dict[str, Any]) -> dict[str, Any]:
        where = f".content[{number}]"
        kind = part.get("type")
        if kind == "file" and not self.row.text_files and (text := text_in(part)) is not None:
            return self._text_file(index, where, part["file"], text)
        if self.row.flat_attachments and (flat := flat_part(part)) is not None:
            self.report.change(index, where, "reshape", "the upstream accepts attachments only as strings", to=flat["type"])
            return flat
        if kind == "refusal" and "refusal" not in self.row.part_types:
            part = {"type": "text", "text": str(part.get("refusal") or "")}
            kind = "text"
            self.report.change(index, where, "reshape", "a refusal is sent as text")
        elif self.row.part_kinds and kind not in self.row.part_kinds and kind != "thinking":
            why = f"content of type {str(kind)[:40]!r} is not supported here"
            raise self.report.work.refuse(f"messages[{index}]{where}", why, "unsupported_content")
        if self.row.unknown == "drop":
            extra = [name for name in part if name not in ("type", kind, *self.row.parts)]
            extra = [] if kind == "thinking" else extra
        else:
            extra = [name for name in part if name in OTHER_VENDORS_FIELDS and name not in (kind, *self.row.parts)]
            extra = [] if self.row.unknown == "pass" else extra
        if extra:
            for name in extra:
                self.report.drop(index, f"{where}.{name}", part[name])
            part = {name: value for name, value in part.items() if name not in extra}
        return self._image(index, where, part) if kind == "image_url" else part

    def _text_file(self, index: int, where: str, file: dict[str, Any], text: str) -> dict[str, Any]:
        self.report.change(index, where, "reshape", "the upstream accepts no text files; the text is sent", to="text")
        for name in [name for name in file if name != "file_data"]:
            self.report.drop(index, f"{where}.file.{name}", file[name])
        return {"type": "text", "text": text}

    def _image(self, index: int, where: str, part: dict[str, Any]) -> dict[str, Any]:
        image = part.get("image_url")
        if type(image) is dict and self.row.unknown != "pass":
            extra = [name for name in image if name != "url" and name not in self.row.image]
            for name in extra:
                if image[name] == "auto":
                    self.report.change(index, f"{where}.image_url.{name}", "drop", NEUTRAL)
                else:
                    self.report.drop(index, f"{where}.image_url.{name}", image[name])
            if extra:
                part = {**part, "image_url": {name: value for name, value in image.items() if name not in extra}}
        address = image_url(part)
        known = registered(address)
        if known == address:
            return part
        self.report.change(index, f"{where}.image_url.url", "reshape", "sent with the registered media type")
        image = part["image_url"]
        return {**part, "image_url": {**image, "url": known} if type(image) is dict else known}

    def _reasoning(self, index: int, message: Message) -> None:
        """Move earlier reasoning to the field that the vendor accepts, or drop it."""
        if self.row.unknown == "pass":
            return
        self._thinking_parts(index, message)
        to = self.reasoning
        if to == "thinking_blocks":
            self._thinking_blocks(index, message)
        elif "thinking_blocks" in message:
            why = "only the vendor that signed the blocks can read them"
            self.report.drop(index, ".thinking_blocks", message.pop("thinking_blocks"), why)
        given = [name for name in _REASONING if message.get(name)]
        for name in _REASONING:
            if name in message and not message[name]:
                self.report.drop(index, f".{name}", message.pop(name))
        if to in _REASONING and given and to not in given and given[0] not in self.row.assistant:
            message[to] = message.pop(given[0])
            self.report.change(index, f".{given[0]}", "rename", to=to)
            given = [to, *given[1:]]
        elif to == "thinking_part" and given:
            self._as_part(index, message, given[0])
        for name in given:
            if name in message and name != to and name not in self.row.assistant:
                value = message.pop(name)
                if value == message.get(to) or (to == "thinking_blocks" and message.get("thinking_blocks")):
                    self.report.change(index, f".{name}", "drop", f"same value as '{to}'")
                else:
                    self.report.drop(index, f".{name}", value, "the upstream accepts no earlier reasoning")

    def _thinking_parts(self, index: int, message: Message) -> None:
        """Move `thinking` parts of the content (Mistral, Cohere) to the field for reasoning."""
        content = message.get("content")
        if type(content) is not list or all(part.get("type") != "thinking" for part in content):
            return
        if "thinking" in self.row.part_types:
            return
        text = "".join(thinking_text(part) for part in content if part.get("type") == "thinking")
        message["content"] = [part for part in content if part.get("type") != "thinking"]
        if not message["content"]:
            message["content"] = None if message.get("tool_calls") else ""
        if not any(message.get(name) for name in _REASONING):
            message["reasoning_content"] = text
            self.report.change(index, ".content", "reshape", "thinking parts are sent as earlier reasoning")

    def _thinking_blocks(self, index: int, message: Message) -> None:
        """Keep the blocks that are signed or redacted, because Anthropic refuses other blocks."""
        blocks = message.get("thinking_blocks")
        if blocks is None:
            return
        listed = blocks if type(blocks) is list else []
        kept = [block for block in listed if type(block) is dict and (block.get("signature") or block.get("type") == "redacted_thinking")]
        if kept == blocks and kept:
            return
        del message["thinking_blocks"]
        if kept:
            message["thinking_blocks"] = kept
        self.report.drop(index, ".thinking_blocks", blocks, "a thinking block needs its signature")

    def _as_part(self, index: int, message: Message, name: str) -> None:
        content = message.get("content")
        texts = content if type(content) is list else [{"type": "text", "text": content}] if content else []
        if any(part.get("type") == "thinking" for part in texts):
            return
        message["content"] = [{"type": "thinking", "thinking": message.pop(name)}, *texts]
        self.report.change(index, f".{name}", "reshape", to="content[0].thinking")

    def _refusal(self, index: int, message: Message) -> None:
        """Send a refusal as text, unless the vendor has a field for refusals or the message has another text."""
        refusal = message.get("refusal")
        if "refusal" in self.row.assistant or self.row.unknown == "pass" or message.get("content"):
            return
        if type(refusal) is str and refusal:
            message["content"] = message.pop("refusal")
            self.report.change(index, ".refusal", "reshape", to="content")

    def _calls(self, index: int, message: Message) -> None:
        if "tool_calls" not in message:
            return
        calls = message["tool_calls"]
        if not calls:
            del message["tool_calls"]
            self.report.change(index, ".tool_calls", "drop", NEUTRAL)
            if self.row.null_answers and message.get("content") is None:
                message["content"] = ""
                self.report.change(index, ".content", "reshape", "an assistant message must have content", to="")
        elif self.row.unknown != "pass":
            message["tool_calls"] = [self._call(index, number, call) for number, call in enumerate(calls)]

    def _call(self, index: int, number: int, call: dict[str, Any]) -> dict[str, Any]:
        where = f".tool_calls[{number}]"
        kind = call.get("type")
        if type(kind) is not str:
            kind = "custom" if "custom" in call and "function" not in call else "function"
            call = {**call, "type": kind}
            self.report.change(index, f"{where}.type", "set_default", to=kind)
        if kind == "custom":
            call = self._custom(index, where, call)
            kind = call["type"]
        elif kind != "function" and self.row.unknown == "drop":
            raise self.report.work.refuse(f"messages[{index}]{where}.type", "only function calls are supported", "unsupported_content")
        result = dict(call)
        extra = [name for name in call if name not in ("id", "type", kind, *self.row.calls)]
        for name in extra:
            if self.row.unknown == "new" and name not in ("index", *OTHER_VENDORS_FIELDS):
                continue
            del result[name]
            self.report.drop(index, f"{where}.{name}", None if name == "index" else call[name])
        function = call.get("function")
        if kind == "function" and type(function) is not dict:
            raise self.report.work.refuse(f"messages[{index}]{where}.function", "it must be an object", "invalid_type")
        if type(function) is dict:
            result["function"] = self._function(index, where, function)
        return result

    def _custom(self, index: int, where: str, call: dict[str, Any]) -> dict[str, Any]:
        """Return a call of a custom tool, as a call of a function if the vendor has no custom tools."""
        if not is_custom(call) or type(call["custom"].get("name")) is not str:
            raise self.report.work.refuse(f"messages[{index}]{where}.custom", "it must be an object with a name", "invalid_type")
        if self.row.custom_tools:
            return call
        self.report.change(index, where, "reshape", "custom tools are not supported; the input is sent as an argument", to="function")
        return call_as_function(call)

    def _valid_name(self, index: int, where: str, name: str) -> str:
        """Return the name of a function that an earlier message called, in a form that the vendor accepts."""
        valid = _NOT_IN_A_NAME.sub("_", name)[:64] or "_"
        if re.fullmatch(self.row.function_name or "", valid) is None:
            valid = f"_{valid[:63]}"
        self.report.change(index, where, "reshape", "only letters, digits, _ and - are allowed", to=valid)
        return valid

    def _function(self, index: int, where: str, function: dict[str, Any]) -> dict[str, Any]:
        arguments = function.get("arguments")
        result = {name: value for name, value in function.items() if name in ("name", "arguments")}
        for name in [name for name in function if name not in result]:
            self.report.drop(index, f"{where}.function.{name}", function[name])
        called = function.get("name")
        if self.row.function_name is not None and type(called) is str and re.fullmatch(self.row.function_name, called) is None:
            result["name"] = self._valid_name(index, f"{where}.function.name", called)
        if type(arguments) is not str or not arguments.strip():
            result["arguments"] = "{}" if arguments is None or type(arguments) is str else json_text(arguments)
            self.report.change(index, f"{where}.function.arguments", "reshape", "arguments must be the text of a JSON object")
        return result

    def _cache(self, index: int, message: Message) -> None:
        """Move `cache_control` from a message to its last part, if parts may have it."""
        if "cache_control" not in message or self.row.message_cache or "cache_control" not in self.row.parts:
            return
        content = message.get("content")
        parts = content if type(content) is list else [{"type": "text", "text": content}] if content else []
        if not parts:
            return
        mark = message.pop("cache_control")
        message["content"] = [*parts[:-1], {**parts[-1], "cache_control": parts[-1].get("cache_control", mark)}]
        self.report.change(index, ".cache_control", "reshape", to="the last part")


def thinking_text(part: dict[str, Any]) -> str:
    """Return the text of a `thinking` part: a string (Cohere) or a list of texts (Mistral)."""
    inner = part.get("thinking")
    if type(inner) is list:
        return "".join(str(item.get("text") or "") for item in inner if type(item) is dict)
    return inner if type(inner) is str else ""

