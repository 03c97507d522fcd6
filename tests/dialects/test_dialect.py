"""The dialects that keep OpenAI's format."""

from __future__ import annotations

from typing import cast

from gateway.dialects.dialect import PlainDialect, Translator, in_callers_terms
from providers.base import Refusal


def test_plain_dialect_changes_no_answer_and_needs_no_decoder() -> None:
    dialect = PlainDialect("chat", ("/chat",), has_messages=True, can_continue=False)
    assert dialect.response(b'{ "id": 1}') == b'{ "id": 1}'
    assert dialect.stream(None) is None
    assert (dialect.paths, dialect.has_messages, dialect.can_continue) == (("/chat",), True, False)


class Renames:
    """A translator, as far as errors need it: `messages[1]` is the caller's `input[0]`."""

    def param(self, name: str) -> str:
        """Return the caller's name."""
        return name.replace("messages[1]", "input[0]")


def test_a_refusal_has_the_callers_name_in_the_message_too() -> None:
    refusal = Refusal("'messages[1].content' cannot be sent to Groq: no file.", "messages[1].content", "c")
    told = in_callers_terms(refusal, cast("Translator", Renames()))
    assert (told.message, told.param, told.code) == ("'input[0].content' cannot be sent to Groq: no file.", "input[0].content", "c")
    assert in_callers_terms(refusal, None) is refusal
    without = Refusal("no target", None)
    assert in_callers_terms(without, cast("Translator", Renames())) is without
