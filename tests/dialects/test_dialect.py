"""The dialects that keep OpenAI's format."""

from __future__ import annotations

from gateway.dialects.dialect import PlainDialect


def test_plain_dialect_changes_no_answer_and_needs_no_decoder() -> None:
    dialect = PlainDialect("chat", ("/chat",), has_messages=True, can_continue=False)
    assert dialect.response(b'{ "id": 1}') == b'{ "id": 1}'
    assert dialect.stream(None) is None
    assert (dialect.paths, dialect.has_messages, dialect.can_continue) == (("/chat",), True, False)
