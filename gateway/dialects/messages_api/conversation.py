"""Translates the turns of a Messages request to the messages of a chat completion."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.dialects.messages import check_count
from gateway.dialects.messages_api.changes import Changes, InexpressibleError, missing, unsupported, wrong_type
from gateway.dialects.messages_api.content import Part, content_of, extra_fields, kind_of, part_of, text_part
from gateway.dialects.messages_api.fields import (
    ABSENT,
    Fields,
    decode_objects,
    encode,
    is_default,
    is_given,
    is_text,
    list_of_fields,
    raw_text,
    text,
)
from gateway.dialects.messages_api.origin import Origin, numbers_of, origins_of_texts
from gateway.dialects.messages_api.signatures import FIELD, details_in, is_own
from gateway.dialects.messages_api.usual_turns import Turn, read_turns, translate_turn
from gateway.dialects.plain_messages import read_plain
from gateway.errors import refuse

Message = dict[str, Any]
_RESULTS_FIRST = "tool results are sent before the rest of the message"
_ONE_ORDER = "an assistant message of a chat completion has its thinking first, then its text, then its tool calls"
_DIRECT = b'{"type":"direct"}'
_ROLES = frozenset({"user", "assistant", "system"})
_NO_TYPE = frozenset({""})


class Conversation:
    """The messages of one request, in order, and the origin of each of them."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.messages: list[Message] = []
        self.origins: list[Origin] = []

    def _add(self, message: Message, origin: Origin) -> None:
        self.messages.append(message)
        self.origins.append(origin)

    def add_system(self, system: msgspec.Raw) -> None:
        """Add the system prompt, unless it is empty."""
        try:
            content = self._texts(system, "system")
        except InexpressibleError as error:
            self._changes.refuse(error)
            content = msgspec.Raw(encode(bytes(system).decode(errors="replace")))
        if content not in ([], msgspec.Raw(b'""')):
            self._add({"role": "system", "content": content}, Origin("system", numbers_of(content)))

    def _texts(self, raw: msgspec.Raw, param: str) -> msgspec.Raw | list[Part]:
        """Return content that may consist of texts only."""
        if bytes(raw)[:1] == b"[":
            for index, block in enumerate(list_of_fields(raw, param)):
                if kind_of(block, f"{param}[{index}]") != "text":
                    raise unsupported(f"{param}[{index}].type", f"'{param}' may contain only text.")
        return content_of(raw, param, self._changes)

    def add_turns(self, raw: msgspec.Raw) -> None:
        """Add the messages of all turns. Raise BadRequest if there are none or too many."""
        plain = read_plain(raw, _ROLES, _NO_TYPE)
        if plain is not None:
            check_count(len(plain))
            self.messages += plain
            self.origins += origins_of_texts(len(plain))
            return
        usual = read_turns(raw)
        if usual is not None:
            check_count(len(usual))
            for index, turn in enumerate(usual):
                self.add_turn(turn, index)
            return
        turns = list_of_fields(raw, "messages")
        if not turns:
            raise refuse("messages", "'messages' must contain at least one message.")
        check_count(len(turns))
        for index, fields in enumerate(turns):
            self.add_turn(fields, index)

    def add_turn(self, turn: Turn | Fields, index: int) -> None:
        """Add the messages of one turn.

        If a chat completion cannot express the turn, record the refusal, and add the turn's JSON so that its tokens are counted.
        """
        before = len(self.messages)
        try:
            if isinstance(turn, Turn) and (translated := translate_turn(turn, f"messages[{index}]", self._changes)) is not None:
                self.messages += translated[0]
                self.origins += translated[1]
            else:
                self._add_turn(_fields(turn), index)
        except InexpressibleError as error:
            self._changes.refuse(error)
            del self.messages[before:], self.origins[before:]
            self._add(_stand_in(_fields(turn)), Origin(f"messages[{index}]"))

    def _add_turn(self, turn: Fields, index: int) -> None:
        param = f"messages[{index}]"
        role = text(turn.get("role", ABSENT), f"{param}.role")
        content = turn.get("content", ABSENT)
        if content == ABSENT:
            raise missing(f"{param}.content")
        more = {name: raw for name, raw in turn.items() if name not in ("role", "content")} if len(turn) > 2 else {}
        if role == "system":
            parts = self._texts(content, f"{param}.content")
            self._add({"role": role, "content": parts, **more}, Origin(param, numbers_of(parts)))
        elif role not in ("user", "assistant"):
            raise refuse(f"{param}.role", f"'{role[:40]}' is not a role. Use user, assistant or system.")
        elif is_text(content):
            self._add({"role": role, "content": content, **more}, Origin(param))
        elif bytes(content)[:1] != b"[":
            raise wrong_type(f"{param}.content", "a string or a list of content blocks")
        elif role == "user":
            self._add_user(list_of_fields(content, f"{param}.content"), param, more)
        else:
            self._add_assistant(list_of_fields(content, f"{param}.content"), param, more)

    def _add_user(self, blocks: list[Fields], param: str, more: Message) -> None:
        """Add the tool results of a user's message, each as a message, then its other blocks as one message."""
        parts: list[Part] = []
        origin = Origin(param)
        has_results = False
        for index, block in enumerate(blocks):
            where = f"{param}.content[{index}]"
            if kind_of(block, where) == "tool_result":
                has_results = True
                if parts:
                    self._changes.reshape(where, _RESULTS_FIRST)
                self._add_result(block, where)
            else:
                translated = part_of(block, where, self._changes)
                parts += translated
                origin.parts += [index] * len(translated)
        if parts or not has_results:
            self._add({"role": "user", "content": parts, **more}, origin)

    def _add_result(self, block: Fields, param: str) -> None:
        called = raw_text(block.get("tool_use_id", ABSENT), f"{param}.tool_use_id")
        raw = block.get("content", ABSENT)
        content = content_of(raw, f"{param}.content", self._changes) if is_given(raw) else ""
        result: Message = {"role": "tool", "tool_call_id": called, "content": content if content != [] else ""}
        failed = block.get("is_error", ABSENT)
        if is_given(failed) and bytes(failed) not in (b"true", b"false"):
            raise wrong_type(f"{param}.is_error", "a boolean")
        if bytes(failed) == b"true":
            result["is_error"] = True
        self._neutral(block, param, "toolset_name")
        result |= extra_fields(block, "type", "tool_use_id", "content", "is_error", "toolset_name")
        self._add(result, Origin(param, numbers_of(content)))

    def _neutral(self, block: Fields, param: str, name: str, *defaults: bytes) -> None:
        if not is_default(block.get(name, ABSENT), *defaults):
            self._changes.lose(f"{param}.{name}", "it belongs to Anthropic's own tools")

    def _add_assistant(self, blocks: list[Fields], param: str, more: Message) -> None:
        """Add an assistant's message: its thinking, its texts and its tool calls."""
        texts: list[Part] = []
        thoughts: list[Fields] = []
        calls: list[Part] = []
        origin = Origin(param)
        for index, block in enumerate(blocks):
            where = f"{param}.content[{index}]"
            kind = kind_of(block, where)
            if kind == "text":
                self._check_order(where, later=bool(calls))
                texts += text_part(block, where, self._changes)
                origin.parts.append(index)
            elif kind in ("thinking", "redacted_thinking"):
                self._check_order(where, later=bool(calls or texts))
                field = "thinking" if kind == "thinking" else "data"
                raw_text(block.get(field, ABSENT), f"{where}.{field}")
                thoughts.append(block)
                origin.thoughts.append(index)
            elif kind == "tool_use":
                mark = block.get("cache_control", ABSENT)
                if is_given(mark) and index < len(blocks) - 1:
                    self._changes.lose(f"{where}.cache_control", "only the last block of an assistant's message can have a cache mark")
                elif is_given(mark):
                    more = {**more, "cache_control": mark}
                    origin.mark = index
                calls.append(self._call(block, where))
                origin.calls.append(index)
            else:
                part_of(block, where, self._changes)  # raises BadRequest for types that no role may have
                raise unsupported(f"{where}.type", f"An assistant's message cannot contain content of type '{kind}'.")
        plain = len(texts) == 1 and len(texts[0]) == 2
        content: Any = texts[0]["text"] if plain else texts or None
        places = [f"{param}.content[{index}]" for index in origin.thoughts]
        message: Message = {"role": "assistant", "content": content, **_thinking(thoughts, places), **more}
        if calls:
            message["tool_calls"] = calls
        elif not texts and not thoughts:
            message["content"] = ""
        self._add(message, origin)

    def _check_order(self, where: str, *, later: bool) -> None:
        if later:
            self._changes.reshape(where, _ONE_ORDER)

    def _call(self, block: Fields, where: str) -> Part:
        arguments = block.get("input", ABSENT)
        if not len(arguments):
            raise missing(f"{where}.input")
        if bytes(arguments)[:1] != b"{":
            raise wrong_type(f"{where}.input", "an object")
        self._neutral(block, where, "caller", _DIRECT, b'{"type": "direct"}')
        self._neutral(block, where, "toolset_name")
        function = {
            "name": raw_text(block.get("name", ABSENT), f"{where}.name"),
            "arguments": bytes(arguments).decode(errors="replace"),
        }
        known = ("type", "id", "name", "input", "caller", "toolset_name", "cache_control")
        extra = extra_fields(block, *known)
        return {"id": raw_text(block.get("id", ABSENT), f"{where}.id"), "type": "function", "function": function, **extra}


def _thinking(blocks: list[Fields], places: list[str]) -> Message:
    """Return the fields for earlier thinking: the signed and redacted blocks unchanged, and the text of all blocks.

    The signatures that the gateway made are replaced by the reasoning in them.
    """
    if not blocks:
        return {}
    details = [each for block, where in zip(blocks, places, strict=True) for each in details_in(block, where)]
    signed = [block for block in blocks if "data" in block or ("signature" in block and not is_own(block))]
    thoughts = "".join(text(block["thinking"], "thinking") for block in blocks if "thinking" in block)
    fields: Message = {"reasoning_content": thoughts} if thoughts else {}
    if details:
        fields[FIELD] = details
    if signed:
        fields["thinking_blocks"] = [msgspec.Raw(encode(block)) for block in signed]
    return fields


def _fields(turn: Turn | Fields) -> Fields:
    return turn.fields() if isinstance(turn, Turn) else turn


def _stand_in(turn: Fields) -> Message:
    """Return a message with the JSON of a turn as its text, and with the turn's tool calls, to which later results refer."""
    content = turn["content"]
    message: Message = {"role": turn["role"], "content": bytes(content).decode(errors="replace")}
    called = [block.get("id") for block in decode_objects(content) if bytes(block.get("type", ABSENT)) == b'"tool_use"']
    function = {"name": "tool", "arguments": "{}"}
    if calls := [{"id": id, "type": "function", "function": function} for id in called if id is not None]:
        message["tool_calls"] = calls
    return message
