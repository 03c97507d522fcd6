"""`MessagePass`: the one rule for everything in `messages`, by the vendor's row in `providers.message_tables`.

A conversation of plain texts that already fits the row is recognized without decoding it as a whole, and stays unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from providers.base import Body
from providers.body import PlainMessage
from providers.rules import conversation, tool_results
from providers.rules.conversation import Turn
from providers.rules.message_capabilities import describe_fields
from providers.rules.message_fields import FieldPass, Report
from providers.rules.message_row import MessageRow
from providers.rules.messages import Message
from providers.rules.places import Place, place_of, places_of
from providers.rules.rule import Rule, Work


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A message that consists of a role and a content only."""

    role: Literal["system", "developer", "user", "assistant"]
    content: msgspec.Raw


_read_plain = msgspec.json.Decoder(list[_Plain]).decode
_ANY_TEXT = re.compile(rb'"')
_VISIBLE_TEXT = re.compile(rb'"(?!(?:\s|\\[nrt]|\\u[0-9a-fA-F]{4}|\xc2\xa0|\xe3\x80\x80|\xe2\x80[\x80-\x8a])*")')


def _place(body: Body, turn: Turn, messages: list[Message]) -> Place:
    """Return the place of a turn. It is not exact if the turn has a list of parts, and their number or the role has changed."""
    place, given = place_of(body, turn.place), messages[turn.place]
    before, after = given.get("content"), turn.message.get("content")
    is_same = type(before) is list and type(after) is list and len(before) == len(after)
    if type(after) is list and not (is_same and given.get("role") == turn.message.get("role")):
        return place._replace(is_exact=False)
    return place


class MessagePass(Rule, frozen=True):
    """Adapts the messages of a conversation in one pass."""

    param: str = "messages"
    row: MessageRow = MessageRow(source="")
    model: str = ""
    runs: ClassVar[Literal["present", "always", "stream"]] = "present"

    @property
    def replaces(self) -> tuple[str, ...]:
        return (type(self).__name__,)

    @property
    def reasoning(self) -> str:
        """The field for earlier reasoning that this model accepts, or ""."""
        prefixes = self.row.reasoning_models
        return self.row.reasoning if not prefixes or self.model.startswith(prefixes) else ""

    def is_relevant(self, body: Body) -> bool:
        """Return whether the messages must be examined: they are more than plain texts, or may break a rule of the row."""
        row = self.row
        texts = body.plain_messages()
        if texts is not None:
            has_blank = row.blanks != "accepted" and "" in [message.content.strip() for message in texts]
            return has_blank or self._breaks_rule(texts)
        try:
            messages = _read_plain(body.raw("messages") or b"")
        except msgspec.ValidationError:
            return True
        is_text = (_ANY_TEXT if row.blanks == "accepted" else _VISIBLE_TEXT).match
        return any(is_text(message.content) is None for message in messages) or self._breaks_rule(messages)

    def _breaks_rule(self, messages: Sequence[PlainMessage | _Plain]) -> bool:
        """Return whether the roles of plain messages may break a rule of the row."""
        row = self.row
        has_turn = not row.needs_turn
        role = last = ""
        for message in messages:
            before, role = role, message.role
            if role == "developer" and row.developer:
                return True
            if row.answer_after_results and before == "assistant" and role in ("system", "developer"):
                return True
            if role in ("user", "assistant"):
                has_turn, last = True, role
        if not has_turn or (row.tail_field and role not in ("user", "assistant")):
            return True
        return last == "assistant" and (row.trims_tail or row.tail_field != "")

    def apply(self, work: Work) -> None:
        """Adapt the messages. If no message needs a change, the list of messages keeps its bytes."""
        if "messages" not in work.body or not self.is_relevant(work.body):
            return
        messages: list[Message] = work.body.get("messages")
        report = Report(work)
        turns = self._adapt(work, report, [Turn(index, message) for index, message in enumerate(messages)])
        report.finish()
        changed = [turn.message for turn in turns]
        if changed != messages:
            work.body.set("messages", changed)
            places = [_place(work.body, turn, messages) for turn in turns]
            if work.body.places is not None or places != places_of(Body(b"{}"), range(len(messages))):
                work.body.places = places

    def _adapt(self, work: Work, report: Report, turns: list[Turn]) -> list[Turn]:
        row = self.row
        fields = FieldPass(row, self.reasoning, report)
        turns = [self._with_role(work, report, turn) for turn in turns]
        if not row.functions and row.has_tools:
            turns = conversation.functions_as_tools(turns, report)
        if row.has_tools and row.unknown != "pass" and any("tool_call_id" in turn.message for turn in turns):
            turns = tool_results.one_for_each_call(turns, report)
            if row.result_parts:
                turns = tool_results.other_content_behind(turns, row, report)
        turns = [Turn(index, fields.clean(index, message)) for index, message in turns]
        if row.blanks != "accepted":
            turns = conversation.without_blanks(turns, row, report)
            if not turns:
                raise work.refuse("messages", "no message has any text")
        elif not row.null_answers:
            turns = conversation.with_content(turns, report)
        if row.answer_after_results:
            turns = conversation.with_late_instructions(turns, report)
        if row.has_tools and any("tool_calls" in turn.message for turn in turns):
            turns = tool_results.results_first(turns, report)
            if row.needs_results:
                tool_results.check_results(turns, work)
            if row.call_id or row.unique_ids or row.needs_results:
                turns = conversation.valid_ids(turns, row, report)
            if row.pads_reasoning:
                turns = conversation.with_reasoning(turns, work, report)
            if row.answer_after_results:
                turns = conversation.with_answers_after_results(turns, report)
        if row.needs_turn:
            turns = conversation.with_a_turn(turns, row, report)
        if turns and (row.trims_tail or row.tail_field):
            turns = conversation.valid_tail(turns, row, report)
        return turns

    def _with_role(self, work: Work, report: Report, turn: Turn) -> Turn:
        if turn.message.get("role") != "developer" or not self.row.developer:
            return turn
        if self.row.developer == "setting" and not work.settings.get("developer_as_system", True):
            return turn
        report.change(turn.place, ".role", "role_map", from_="developer", to="system")
        return Turn(turn.place, {**turn.message, "role": "system"})

    def describe(self) -> dict[str, dict[str, Any]]:
        return describe_fields(self.row, self.reasoning)
