"""Ids of MCP sessions carry a mark of the key that opened them."""

from __future__ import annotations

import pytest
from msgspec import structs

import providers
from gateway.passthrough.mcp_sessions import Sessions
from providers.base import Target

TARGET = Target("mcp/a", "mcp", providers.get("openai-compatible"), "a", "http://a/mcp", "token", headers=(("x-a", "1"),))


@pytest.mark.parametrize("id", [b"s", b"a.b.c", b"", b"x" * 500])
def test_only_its_owner_can_use_a_session(id: bytes) -> None:
    given = Sessions(TARGET).for_caller("one", id)
    assert Sessions(TARGET).for_server("one", given) == id
    for owner, other in (("two", given), ("one", id), ("one", given + b"0"), ("one", given[1:]), ("", given), ("one", b".")):
        assert Sessions(TARGET).for_server(owner, other) is None


def test_mark_depends_on_the_server_and_its_credential() -> None:
    changes = ({"name": "mcp/b"}, {"base_url": "http://b/mcp"}, {"credential": "other"}, {"headers": ()})
    marks = {Sessions(structs.replace(TARGET, **change)).for_caller("one", b"s") for change in ({}, *changes)}
    assert len(marks) == 5
