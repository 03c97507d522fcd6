"""The end user of a call: the fields and headers that name it, and rejected names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.dialects.end_user import MAX_USER_CHARS, check_required, end_user
from gateway.errors import BadRequest
from gateway.http.json_body import parse_body
from providers.base import Body
from tests.support.each import each

HEADER = b"x-end-user"


def body(fields: dict[str, Any] | None) -> Body | None:
    """Return a request body."""
    return None if fields is None else parse_body(msgspec.json.encode(fields))


@each(
    "chat, source, expected",
    [
        ({"user": "u"}, None, "u"),
        ({"safety_identifier": "s"}, None, "s"),
        ({"user": "u", "safety_identifier": "s"}, None, "u"),
        ({"user": "", "safety_identifier": "s"}, None, "s"),
        ({"user": None}, None, ""),
        ({}, None, ""),
        (None, None, ""),
        ({}, {"safety_identifier": "s"}, "s"),
        ({}, {"metadata": {"user_id": "m"}}, "m"),
        ({"user": "m"}, {"metadata": {"user_id": "m"}}, "m"),
        ({}, {"metadata": {"user_id": 5}}, ""),
        ({}, {"metadata": []}, ""),
        ({"metadata": {"user_id": "of-chat"}}, None, ""),
        ({"user": "  "}, None, ""),
        ({"user": "\t\n\u00a0\u3000"}, None, ""),
        ({"user": " \u200b\u2060 \0"}, None, ""),
        ({"user": " ", "safety_identifier": "s"}, None, "s"),
        ({"safety_identifier": " "}, {"safety_identifier": "\u200b"}, ""),
        ({}, {"metadata": {"user_id": " \n"}}, ""),
        ({"user": " u v "}, None, "u v"),
        ({"user": "u\u200bv"}, None, "u\u200bv"),
    ],
)
def test_the_fields_of_each_api_name_the_user(chat: Any, source: Any, expected: str) -> None:
    assert end_user(body(chat), body(source), [], HEADER) == expected


def test_the_header_takes_precedence_and_an_empty_one_does_not_count() -> None:
    chat = body({"user": "u"})
    assert end_user(chat, None, [(HEADER, " jürgen ".encode())], HEADER) == "jürgen"
    assert end_user(chat, None, [(HEADER, b"")], HEADER) == "u"
    assert end_user(chat, None, [(HEADER, b"  ")], HEADER) == "u"
    assert end_user(chat, None, [(HEADER, b"h")], None) == "u"
    assert end_user(None, None, [(HEADER, b"h")], HEADER) == "h"


@pytest.mark.parametrize("values", [[b"a", b"b"], [b"\xff"], [b"a\tb"], [b"x" * (MAX_USER_CHARS + 1)]])
def test_an_unusable_header_is_rejected(values: list[bytes]) -> None:
    with pytest.raises(BadRequest) as error:
        end_user(None, None, [(HEADER, value) for value in values], HEADER)
    assert error.value.param == "x-end-user"


def test_a_required_user_is_named_with_all_ways_to_send_it() -> None:
    check_required("u", HEADER)
    with pytest.raises(BadRequest, match="or the header 'x-end-user'") as error:
        check_required("", HEADER)
    assert (error.value.param, error.value.code) == ("user", "end_user_required")
