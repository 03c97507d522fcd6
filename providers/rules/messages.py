"""Rules on the conversation: roles, content parts, names, turns that must alternate, and `system_prompt`.

A conversation is long and mostly needs nothing, so each rule first looks for its words in the raw bytes and decodes only
when one is there. A JSON escape of an ASCII letter could hide a word, so that bytes with one are always decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from providers.rules.engine import Rule, Work

Message = dict[str, Any]
DEVELOPER_IS_SYSTEM: Mapping[str, str] = MappingProxyType({"developer": "system"})
_ESCAPED_ASCII = b"\\u00"


def may_mention(raw: bytes, words: tuple[bytes, ...]) -> bool:
    """True when one of `words` is in the JSON bytes, or may be, escaped."""
    return _ESCAPED_ASCII in raw or any(word in raw for word in words)


class MessageRule(Rule, frozen=True):
    """A rule on every message; runs only when the conversation's bytes have one of `words`."""

    param: str = "messages"
    words: ClassVar[tuple[bytes, ...]] = ()

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def is_relevant(self, raw: bytes) -> bool:
        """True when the messages must be looked at."""
        return may_mention(raw, self.words)

    def apply(self, work: Work) -> None:
        """Rewrite the messages that need it."""
        raw = work.body.raw("messages")
        if raw is None or not self.is_relevant(raw):
            return
        messages = work.body.get("messages")
        changed = self.rewrite(work, messages)
        if changed is not None:
            work.body.set("messages", changed)

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """The new messages (copies, never changed in place), or None when they stay."""
        raise NotImplementedError

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class Roles(MessageRule, frozen=True):
    """The roles a provider knows; `to` maps others to one of them, any other role is refused."""

    accepts: tuple[str, ...] = ("system", "user", "assistant", "tool")
    role_map: Mapping[str, str] = DEVELOPER_IS_SYSTEM

    def is_relevant(self, raw: bytes) -> bool:
        missing = {"developer", "function", "tool", "system"}.difference(self.accepts)
        return may_mention(raw, tuple(b'"%s"' % role.encode() for role in missing))

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Map or refuse roles."""
        changed: list[Message] | None = None
        for at, message in enumerate(messages):
            role = str(message.get("role"))
            if role in self.accepts:
                continue
            param = f"messages[{at}].role"
            if role not in self.role_map:
                raise work.refuse(param, f"it knows the roles {', '.join(self.accepts)}")
            changed = changed or list(messages)
            changed[at] = {**message, "role": self.role_map[role]}
            work.report(param, "role_map", from_=role, to=self.role_map[role])
        return changed

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "roles": list(self.accepts)}}


class ContentParts(MessageRule, frozen=True):
    """The content parts a provider takes, by role; text alone is joined to a string where `as_string` names the role."""

    accepts: tuple[str, ...] = ("text",)
    as_string: tuple[str, ...] = ()
    remote_images: bool = True
    """Images may be http addresses; otherwise only data: URIs."""
    words: ClassVar[tuple[bytes, ...]] = (b'"type"',)

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Refuse unknown parts, join text where only a string is taken."""
        changed: list[Message] | None = None
        for at, message in enumerate(messages):
            content = message.get("content")
            if type(content) is not list:
                continue
            only_text = message.get("role") in self.as_string
            for index, part in enumerate(content):
                kind = part.get("type")
                if kind != "text" and (only_text or kind not in self.accepts):
                    why = f"it does not take content of the type {str(kind)[:40]!r} here"
                    raise work.refuse(f"messages[{at}].content[{index}]", why, "unsupported_content")
                if kind == "image_url" and not self.remote_images and not image_url(part).startswith("data:"):
                    raise work.refuse(f"messages[{at}].content[{index}]", "it takes images as data: URIs only", "unsupported_content")
            if only_text:
                changed = changed or list(messages)
                changed[at] = {**message, "content": text_of(content)}
                work.report(f"messages[{at}].content", "reshape", why="upstream takes a string")
        return changed

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "content": sorted({"text", *self.accepts})}}


class DropField(MessageRule, frozen=True):
    """A field of messages that the provider refuses or ignores, but for those of `keeps` roles."""

    field: str = "name"
    keeps: tuple[str, ...] = ()
    why: str = "no such field"

    def is_relevant(self, raw: bytes) -> bool:
        return may_mention(raw, (b'"%s"' % self.field.encode(),))

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Take the field out."""
        changed: list[Message] | None = None
        for at, message in enumerate(messages):
            if self.field not in message or message.get("role") in self.keeps:
                continue
            changed = changed or list(messages)
            changed[at] = {key: value for key, value in message.items() if key != self.field}
            if message[self.field] is not None:
                work.report_lossy(f"messages[{at}].{self.field}", "drop", self.why, code="unsupported_parameter")
        return changed

    def describe(self) -> dict[str, dict[str, Any]]:
        return {f"messages[].{self.field}": {"support": "no", "why": self.why}}


class RefuseToolTurns(MessageRule, frozen=True):
    """A provider without tools: a turn that called one cannot be told."""

    words: ClassVar[tuple[bytes, ...]] = (b'"tool_calls"', b'"function_call"')

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Refuse such turns."""
        for at, message in enumerate(messages):
            for field in ("tool_calls", "function_call"):
                if message.get(field):
                    raise work.refuse(f"messages[{at}].{field}", "it knows no tools", "unsupported_content")
        return None


class AlternateRoles(MessageRule, frozen=True):
    """User and assistant turns must alternate: neighbours of one role are merged, or refused in strict mode."""

    def is_relevant(self, raw: bytes) -> bool:
        return True

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Merge neighbours that say text only."""
        merged: list[Message] = []
        for at, message in enumerate(messages):
            last = merged[-1] if merged else None
            if last is None or last.get("role") != message.get("role") or not (_plain(last) and _plain(message)):
                merged.append(message)
                continue
            if work.strict:
                raise work.refuse(f"messages[{at}].role", "turns must alternate")
            merged[-1] = {**last, "content": join_content(last["content"], message["content"])}
        if len(merged) == len(messages):
            return None
        work.report("messages", "reshape", from_=len(messages), to=len(merged), why="turns must alternate")
        return merged

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "alternate": True}}


class SystemPrompt(Rule, frozen=True):
    """`system_prompt` becomes the leading system message, or joins the one that is there, before a blank line."""

    param: str = "system_prompt"

    def apply(self, work: Work) -> None:
        """Prepend it."""
        text = work.body.pop(self.param)
        if not text:
            work.report(self.param, "drop", why="neutral value")
            return
        messages = list(work.body.get("messages") or ())
        if messages and messages[0].get("role") in ("system", "developer"):
            messages[0] = {**messages[0], "content": join_content(text, messages[0].get("content") or "")}
        else:
            messages.insert(0, {"role": "system", "content": text})
        work.body.set("messages", messages)
        work.report(self.param, "reshape", to="messages[0]")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": "messages[0]"}}


def image_url(part: dict[str, Any]) -> str:
    """The address of an image_url part, "" when it has none."""
    image = part.get("image_url")
    address = image.get("url") if type(image) is dict else image
    return address if type(address) is str else ""


def text_of(parts: list[dict[str, Any]]) -> str:
    """The text of a list of content parts."""
    return "".join(part.get("text") or "" for part in parts if part.get("type") == "text")


def join_content(first: Any, second: Any) -> Any:
    """Two contents as one, a blank line between; a list of parts when one of them is a list."""
    if type(first) is str and type(second) is str:
        return f"{first}\n\n{second}"
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: Any) -> list[Any]:
    return content if type(content) is list else [{"type": "text", "text": content}]


def _plain(message: Message) -> bool:
    """Text that can be merged: a user or assistant turn, or system text, without tool calls."""
    return message.get("role") in ("user", "assistant", "system") and not message.get("tool_calls") and message.get("content") is not None
