"""Rules for the conversation: roles, content parts, tool turns, alternating turns and `system_prompt`.

Conversations are long and mostly need no change, so most rules look for their words in the raw bytes first and decode
only on a match. Bytes with an escaped ASCII letter are always decoded, because the escape could hide a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from providers.rules.places import Place, place_of, places_of
from providers.rules.rule import Rule, Work

Message = dict[str, Any]
DEVELOPER_IS_SYSTEM: Mapping[str, str] = MappingProxyType({"developer": "system"})
_ESCAPED_ASCII = b"\\u00"


def may_mention(raw: bytes, words: tuple[bytes, ...]) -> bool:
    """Return whether one of `words` is in the JSON bytes, or may be hidden by an escape sequence."""
    return _ESCAPED_ASCII in raw or any(word in raw for word in words)


class MessageRule(Rule, frozen=True):
    """A rule for every message. By default, it runs only if the conversation's bytes may contain one of `words`."""

    param: str = "messages"
    words: ClassVar[tuple[bytes, ...]] = ()

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    def is_relevant(self, raw: bytes) -> bool:
        """Return whether the messages must be decoded."""
        return may_mention(raw, self.words)

    def apply(self, work: Work) -> None:
        raw = work.body.raw("messages")
        if raw is None or not self.is_relevant(raw):
            return
        messages = work.body.get("messages")
        changed = self.rewrite(work, messages)
        if changed is not None:
            work.body.set("messages", changed)

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Return the new messages (copies: the old ones are shared), or None if nothing changes."""
        raise NotImplementedError

    def describe(self) -> dict[str, dict[str, Any]]:
        return {}


class Roles(MessageRule, frozen=True):
    """The roles a provider accepts. `role_map` replaces other roles; a role that is neither accepted nor in `role_map` is refused."""

    accepts: tuple[str, ...] = ("system", "user", "assistant", "tool")
    role_map: Mapping[str, str] = DEVELOPER_IS_SYSTEM

    def is_relevant(self, raw: bytes) -> bool:
        missing = {"developer", "function", "tool", "system"}.difference(self.accepts)
        return may_mention(raw, tuple(b'"%s"' % role.encode() for role in missing))

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        changed: list[Message] | None = None
        for index, message in enumerate(messages):
            role = str(message.get("role"))
            if role in self.accepts:
                continue
            param = f"messages[{index}].role"
            if role not in self.role_map:
                raise work.refuse(param, f"supported roles are {', '.join(self.accepts)}")
            changed = changed or list(messages)
            changed[index] = {**message, "role": self.role_map[role]}
            work.report(param, "role_map", from_=role, to=self.role_map[role])
        return changed

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "roles": list(self.accepts)}}


_MEDIA = frozenset({"image_url", "video_url", "input_audio", "file"})
"""Types of parts that can be left out of a conversation that continues."""


class ContentParts(MessageRule, frozen=True):
    """The content parts a provider accepts. For roles in `as_string`, text parts are joined into a string.

    Other parts are refused at the beginning of a conversation. Once the conversation has an assistant message, pictures, recordings and
    files are replaced by a note in lenient mode, so that the conversation can continue at a provider that reads only text.
    """

    accepts: tuple[str, ...] = ("text",)
    as_string: tuple[str, ...] = ()
    remote_images: bool = True
    """Whether images may have an http or https address. If not, only data: URIs are accepted."""
    words: ClassVar[tuple[bytes, ...]] = (b'"type"',)

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Refuse or replace unknown parts. Join text parts where the provider accepts only a string."""
        changed: list[Message] | None = None
        goes_on = any(message.get("role") == "assistant" for message in messages)
        for position, message in enumerate(messages):
            content = message.get("content")
            if type(content) is not list:
                continue
            only_text = message.get("role") in self.as_string
            kept = [
                self._part(work, f"messages[{position}].content[{index}]", part, only_text, goes_on)
                for index, part in enumerate(content)
            ]
            if only_text or kept != content:
                changed = changed or list(messages)
                changed[position] = {**message, "content": text_of(kept) if only_text else kept}
            if only_text:
                work.report(f"messages[{position}].content", "reshape", why="the upstream accepts only a string")
        return changed

    def _part(self, work: Work, place: str, part: dict[str, Any], only_text: bool, goes_on: bool) -> dict[str, Any]:
        """Return a part as it is sent."""
        kind = part.get("type")
        if kind != "text" and (only_text or kind not in self.accepts):
            if kind not in _MEDIA or not goes_on:
                raise work.refuse(place, f"content of type {str(kind)[:40]!r} is not supported here", "unsupported_content")
            why = "the target does not read it; a note replaces it, so that the conversation can continue"
            work.report_lossy(place, "drop", why, from_=kind, code="unsupported_content")
            return {"type": "text", "text": f"[{kind.removesuffix('_url')} left out]"}
        if kind == "image_url" and not self.remote_images and not image_url(part).startswith("data:"):
            raise work.refuse(place, "images must be data: URIs", "unsupported_content")
        return part

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "content": sorted({"text", *self.accepts})}}


class RefuseToolTurns(MessageRule, frozen=True):
    """Refuses messages with a tool call, for providers without tools."""

    words: ClassVar[tuple[bytes, ...]] = (b'"tool_calls"', b'"function_call"')

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        for index, message in enumerate(messages):
            for field in ("tool_calls", "function_call"):
                if message.get(field):
                    raise work.refuse(f"messages[{index}].{field}", "tools are not supported", "unsupported_content")
        return None


class AlternateRoles(MessageRule, frozen=True):
    """User and assistant messages must alternate. Adjacent messages with the same role are merged, or refused in strict mode."""

    def is_relevant(self, raw: bytes) -> bool:
        return True

    def rewrite(self, work: Work, messages: list[Message]) -> list[Message] | None:
        """Merge neighbours that have content and no tool calls."""
        merged: list[Message] = []
        places: list[Place] = []
        for index, message in enumerate(messages):
            last = merged[-1] if merged else None
            if last is None or last.get("role") != message.get("role") or not (_plain(last) and _plain(message)):
                merged.append(message)
                places.append(place_of(work.body, index))
                continue
            if work.strict:
                raise work.refuse(f"messages[{index}].role", "turns must alternate")
            merged[-1] = {**last, "content": join_content(last["content"], message["content"])}
            places[-1] = places[-1]._replace(is_exact=False)
        if len(merged) == len(messages):
            return None
        work.report("messages", "reshape", from_=len(messages), to=len(merged), why="turns must alternate")
        work.body.places = places
        return merged

    def describe(self) -> dict[str, dict[str, Any]]:
        return {"messages": {"support": "yes", "alternate": True}}


class SystemPrompt(Rule, frozen=True):
    """Sends `system_prompt` as a first system message.

    If the conversation already begins with a system message, the text is put before the content of that message,
    with a blank line in between.
    """

    param: str = "system_prompt"

    def apply(self, work: Work) -> None:
        text = work.body.pop(self.param)
        if not text:
            work.report(self.param, "drop", why="neutral value")
            return
        messages = list(work.body.get("messages") or ())
        if messages and messages[0].get("role") in ("system", "developer"):
            messages[0] = {**messages[0], "content": join_content(text, messages[0].get("content") or "")}
            first, *others = places_of(work.body, range(len(messages)))
            work.body.places = [first._replace(is_exact=False), *others]
        else:
            work.body.places = [Place(self.param, is_exact=False), *places_of(work.body, range(len(messages)))]
            messages.insert(0, {"role": "system", "content": text})
        work.body.set("messages", messages)
        work.report(self.param, "reshape", to="messages[0]")

    def describe(self) -> dict[str, dict[str, Any]]:
        return {self.param: {"support": "adjusted", "action": "reshape", "to": "messages[0]"}}


def image_url(part: dict[str, Any]) -> str:
    """Return the address of an image_url part, or ""."""
    image = part.get("image_url")
    address = image.get("url") if type(image) is dict else image
    return address if type(address) is str else ""


def text_of(parts: list[dict[str, Any]]) -> str:
    """Return the joined text of a list of content parts."""
    return "".join(part.get("text") or "" for part in parts if part.get("type") == "text")


def join_content(first: Any, second: Any) -> Any:
    """Join two contents with a blank line. The result is a list of parts if either content is a list."""
    if type(first) is str and type(second) is str:
        return f"{first}\n\n{second}"
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: Any) -> list[Any]:
    return content if type(content) is list else [{"type": "text", "text": content}]


def _plain(message: Message) -> bool:
    """Return whether a message can be merged: a user, assistant or system message with content and without tool calls."""
    return message.get("role") in ("user", "assistant", "system") and not message.get("tool_calls") and message.get("content") is not None
