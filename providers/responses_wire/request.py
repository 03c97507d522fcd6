"""Converts an adapted chat body to a request of the Responses API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from providers.message_tables import row_of
from providers.responses_wire.reasoning import is_from, items_of
from providers.rules.message_fields import Report
from providers.rules.message_row import MessageRow
from providers.rules.messages import Message, image_url
from providers.rules.rule import Rule, Work

API = "the call is sent through the Responses API"
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
ORIGIN = "origin of reasoning"
"""Key of `Options.memo`: the name of the provider, whose own encrypted reasoning may be sent back."""
LEAST_CAP = 16
"""Lowest `max_output_tokens` that OpenAI and Azure accept (pi#6265, hindsight#58)."""
_CALLED = {"function": ("function_call", "arguments"), "custom": ("custom_tool_call", "input")}
_READABLE = ("reasoning_content", "reasoning")

CONVERSATION: MessageRow = msgspec.structs.replace(
    row_of("openai"),
    source="openai 3.57.0 (ResponseInputItemParam); ids over 64: 9router#393, ldp#479",
    names=(),
    assistant=("reasoning_details",),
    part_types=(),
    part_kinds=("text", "image_url", "file", "refusal"),
    result_parts=("text", "image_url", "file"),
    functions=False,
    call_id=r".{1,64}",
)
"""The contents that messages may have if they are sent through the Responses API."""


class LeastCap(Rule, frozen=True):
    """Raises an output cap below the minimum that the API accepts."""

    param: str = "max_completion_tokens"

    @property
    def params(self) -> tuple[str, ...]:
        return ("max_completion_tokens", "max_tokens")

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Raise a cap that is too low. This change is lossy."""
        cap = work.body.get(self.param)
        if type(cap) is int and cap < LEAST_CAP:
            work.report_lossy(self.param, "clamp", f"the Responses API requires at least {LEAST_CAP}", from_=cap, to=LEAST_CAP)
            work.body.set(self.param, LEAST_CAP)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {name: {"min": LEAST_CAP} for name in self.params}


class OwnReasoning(Rule, frozen=True):
    """Sends back earlier reasoning that this provider encrypted, in place of the readable reasoning.

    This rule precedes `MessagePass`.
    """

    param: str = "messages"

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def apply(self, work: Work) -> None:
        """Drop and report the entries that this provider cannot decrypt."""
        if b'"reasoning_details"' not in (work.body.raw("messages") or b""):
            return
        origin, report = str(work.options.memo.get(ORIGIN, "")), Report(work)
        messages = [_with_own(message, index, origin, report) for index, message in enumerate(work.body.get("messages"))]
        report.finish()
        work.body.set("messages", messages)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def _with_own(message: Message, index: int, origin: str, report: Report) -> Message:
    if not message.get("reasoning_details"):
        return message
    details = message["reasoning_details"]
    own = [detail for detail in details if is_from(detail, origin)] if type(details) is list else []
    if own != details:
        report.drop(index, ".reasoning_details", details, "only the provider that encrypted the reasoning can read it")
    result = {name: value for name, value in message.items() if name != "reasoning_details"}
    if not own:
        return result
    for name in _READABLE:
        if result.pop(name, None):
            report.change(index, f".{name}", "drop", "the encrypted reasoning is sent")
    return {**result, "reasoning_details": own}


class AsResponse(Rule, frozen=True):
    """Converts the body. This rule must be the last one."""

    param: str = "messages"
    encrypts: bool = False
    """Whether to request encrypted reasoning. Models that do not reason reject such a request."""
    default_tools: tuple[str, ...] = ()
    """The hosted tools that are added for a model that accepts no call without tools."""
    runs: ClassVar[Literal["present", "always", "stream"]] = "always"

    def apply(self, work: Work) -> None:
        """Rename or reshape every field whose place or form differs."""
        body, options = work.body, work.options
        messages = body.pop("messages") or []
        body.set("input", list(_items(messages, str(options.memo.get(ORIGIN, "")))))
        work.report("messages", "reshape", to="input", why=API)
        if "max_completion_tokens" in body:
            body.rename("max_completion_tokens", "max_output_tokens")
            work.report("max_completion_tokens", "rename", to="max_output_tokens")
        self._tools(work)
        _text(work)
        _reasoning(work)
        self._include(work)
        for name in [name for name in body if body.get(name) is None]:
            body.pop(name)
            work.report(name, "drop", why="neutral value")
        if "store" not in body:
            body.set("store", False)
            work.report("store", "set_default", to=False, why="the default of chat completions")

    def _tools(self, work: Work) -> None:
        body = work.body
        tools = body.get("tools")
        if tools:
            body.set("tools", [_tool(tool) for tool in tools])
            work.report("tools", "reshape", why="the name is beside the type")
        elif self.default_tools:
            body.set("tools", [{"type": kind} for kind in self.default_tools])
            work.report("tools", "set_default", to=list(self.default_tools), why="this model requires a data source")
        choice = body.get("tool_choice")
        if type(choice) is dict:
            body.set("tool_choice", _choice(choice))
            work.report("tool_choice", "reshape", why="the name is beside the type")

    def _include(self, work: Work) -> None:
        body = work.body
        include = [ENCRYPTED] if self.encrypts else []
        if include:
            work.report("include", "set_default", to=include[:], why="so that reasoning can be sent back with the next request")
        if body.get("logprobs") is True:
            include.append(LOGPROBS)
            work.report("logprobs", "reshape", to=f"include: {LOGPROBS}")
        elif "logprobs" in body:
            work.report("logprobs", "drop", why="neutral value")
        body.pop("logprobs")
        if include:
            body.set("include", include)

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


def _items(messages: Iterable[Message], origin: str) -> Iterator[dict[str, Any]]:
    """Yield the items of `input`."""
    custom: set[str] = set()
    for message in messages:
        role = message.get("role")
        if role == "tool":
            call_id = message.get("tool_call_id")
            kind = "custom_tool_call_output" if call_id in custom else "function_call_output"
            yield {"type": kind, "call_id": call_id, "output": _content(message.get("content"))}
        elif role == "assistant":
            calls = message.get("tool_calls") or ()
            custom.update(call["id"] for call in calls if call.get("type") == "custom")
            yield from _turn(message, origin)
        else:
            yield {"role": role, "content": _content(message.get("content"))}


def _turn(message: Message, origin: str) -> list[dict[str, Any]]:
    """Return the items of one turn of the model, with its reasoning at the original places."""
    content = message.get("content")
    items = [_call(call) for call in message.get("tool_calls") or ()]
    if content or not items:
        parts = content if type(content) is list else [{"text": content or ""}]
        texts = [{"type": "output_text", "text": part.get("text") or ""} for part in parts]
        items.insert(0, {"role": "assistant", "content": content if type(content) is str else texts if content else ""})
    thoughts = items_of(message.get("reasoning_details"), origin) if content or message.get("tool_calls") else []
    for position, thought in reversed(thoughts):
        items.insert(min(position, len(items) - 1), thought)
    return items


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    kind, given = _CALLED[str(call.get("type") or "function")]
    called = call[str(call.get("type") or "function")]
    return {"type": kind, "call_id": call.get("id"), "name": called.get("name"), given: called.get(given) or ""}


def _content(content: Any) -> Any:
    return [_part(part) for part in content] if type(content) is list else content or ""


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    marks = {name: part[name] for name in CONVERSATION.parts if name in part}
    if kind == "image_url":
        image = part["image_url"]
        detail = image.get("detail") if type(image) is dict else None
        return {"type": "input_image", "image_url": image_url(dict(part)), "detail": detail or "auto", **marks}
    if kind == "file":
        return {"type": "input_file", **part["file"], **marks}
    return {"type": "input_text", "text": part.get("text") or "", **marks}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool with its fields beside the type.

    `strict` is true by default in the Responses API, and false in chat completions.
    """
    if tool.get("type") == "custom":
        custom = dict(tool["custom"])
        form = custom.get("format")
        if type(form) is dict and type(form.get("grammar")) is dict:
            custom["format"] = {"type": form.get("type"), **form["grammar"]}
        return {"type": "custom", **custom}
    function = tool.get("function")
    if type(function) is not dict:
        return dict(tool)
    return {"type": "function", **function, "parameters": function.get("parameters"), "strict": function.get("strict") is True}


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(choice.get("type"))
    inner = choice.get(kind)
    if type(inner) is not dict:
        return dict(choice)
    if kind == "allowed_tools":
        return {"type": kind, **inner, "tools": [_choice(tool) for tool in inner.get("tools") or ()]}
    return {"type": kind, **inner}


def _text(work: Work) -> None:
    body = work.body
    text: dict[str, Any] = {}
    form = body.pop("response_format")
    if type(form) is dict:
        schema = form.get("json_schema")
        text["format"] = {"type": form.get("type"), **schema} if type(schema) is dict else form
        work.report("response_format", "reshape", to="text.format")
    if (verbosity := body.pop("verbosity")) is not None:
        text["verbosity"] = verbosity
        work.report("verbosity", "rename", to="text.verbosity")
    if text:
        body.set("text", text)


def _reasoning(work: Work) -> None:
    body = work.body
    reasoning: dict[str, Any] = {}
    if (effort := body.pop("reasoning_effort")) is not None:
        reasoning["effort"] = effort
        work.report("reasoning_effort", "rename", to="reasoning.effort")
    if body.pop("include_reasoning") is True:
        reasoning["summary"] = "auto"
        work.report("include_reasoning", "reshape", to="reasoning.summary")
    if reasoning:
        body.set("reasoning", reasoning)
