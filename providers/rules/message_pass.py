"""`MessagePass`: the one rule for everything in `messages`, by the vendor's row in `providers.message_tables`.

A conversation of plain texts costs one search of its bytes: nothing is decoded and nothing is reported.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar, Literal

from providers.rules import conversation
from providers.rules.conversation import Turn
from providers.rules.message_capabilities import describe_fields
from providers.rules.message_fields import FieldPass, Report
from providers.rules.message_row import MessageRow
from providers.rules.messages import Message
from providers.rules.rule import Rule, Work

_OTHER_KEY = rb'"(?!(?:role|content|type|text)"\s*:)[^"\\]{0,80}"\s*:'
_ESCAPED_KEY = rb'\\u00[2-7]'
_BLANK = rb'"(?:content|text)"\s*:\s*(?:"(?:\s|\\[nrt])*"|null|\[\s*\])'
_LIST = rb'"content"\s*:\s*\['
_DEVELOPER = rb'"developer"'
_LAST_ROLE = re.compile(rb'"role"\s*:\s*"assistant"')
_TURN = re.compile(rb'"role"\s*:\s*"(?:user|assistant|tool)"')


@lru_cache(maxsize=256)
def _gate(blanks: bool, lists: bool, developer: bool) -> re.Pattern[bytes]:
    """Return the pattern of everything that a conversation of plain texts does not contain."""
    words = [_OTHER_KEY, _ESCAPED_KEY, *([_BLANK] if blanks else ()), *([_LIST] if lists else ()), *([_DEVELOPER] if developer else ())]
    return re.compile(b"|".join(words))


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
        """The field for earlier reasoning that this model takes, or ""."""
        prefixes = self.row.reasoning_models
        return self.row.reasoning if not prefixes or self.model.startswith(prefixes) else ""

    def is_relevant(self, raw: bytes) -> bool:
        """Return whether the messages must be decoded."""
        row = self.row
        if _gate(row.blanks != "accepted", bool(row.joins), bool(row.developer)).search(raw) is not None:
            return True
        if (row.trims_tail or row.tail_field) and _LAST_ROLE.match(raw, max(0, raw.rfind(b'"role"'))) is not None:
            return True
        return row.needs_turn and _TURN.search(raw) is None

    def apply(self, work: Work) -> None:
        """Adapt the messages. Those that need no change keep their bytes."""
        raw = work.body.raw("messages")
        if raw is None or not self.is_relevant(raw):
            return
        messages: list[Message] = work.body.get("messages")
        report = Report(work)
        turns = self._adapt(work, report, [Turn(index, message) for index, message in enumerate(messages)])
        report.finish()
        changed = [turn.message for turn in turns]
        if changed != messages:
            work.body.set("messages", changed)

    def _adapt(self, work: Work, report: Report, turns: list[Turn]) -> list[Turn]:
        row = self.row
        fields = FieldPass(row, self.reasoning, report)
        turns = [self._with_role(work, report, turn) for turn in turns]
        if not row.functions and row.has_tools:
            turns = conversation.functions_as_tools(turns, report)
        turns = [Turn(index, fields.clean(index, message)) for index, message in turns]
        if row.blanks != "accepted":
            turns = conversation.without_blanks(turns, row, report)
        if row.has_tools and any("tool_calls" in turn.message for turn in turns):
            turns = conversation.results_first(turns, report)
            if row.needs_results:
                conversation.check_results(turns, work)
            if row.call_id or row.unique_ids:
                turns = conversation.valid_ids(turns, row, report)
            if row.pads_reasoning:
                turns = conversation.with_reasoning(turns, work, report)
            if row.answer_after_results:
                turns = conversation.with_answers_after_results(turns, report)
        if row.needs_turn:
            turns = conversation.with_a_turn(turns, report)
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
