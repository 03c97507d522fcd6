"""Tags of calls: from the header and from metadata, only those that are declared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.dialects.gateway_headers import read_gateway_headers
from gateway.dialects.request_headers import gateway_tags, known_headers
from gateway.dialects.tags import MAX_TAGS_PER_CALL, read_tags, tags_of_metadata, with_metadata
from gateway.errors import BadRequest
from gateway.http.json_body import parse_body
from tests.support.each import each

DECLARED = frozenset({"a", "b", "team/web", *(f"t{number}" for number in range(20))})


@each("value, tags", [(b"a", ("a",)), (b" b ,a,, b", ("a", "b")), (b"team/web", ("team/web",)), (b"", ()), (b",", ())])
def test_the_header_has_tags_in_order_and_once(value: bytes, tags: tuple[str, ...]) -> None:
    assert read_tags(value, DECLARED) == tags


@pytest.mark.parametrize(
    ("value", "declared", "message"),
    [
        (b"a,nope", DECLARED, "Unknown tag 'nope'"),
        (b"A", DECLARED, "Unknown tag 'A'"),
        (b"\xff", DECLARED, "Unknown tag"),
        (b"a", frozenset[str](), "declares no tags"),
        (",".join(f"t{number}" for number in range(MAX_TAGS_PER_CALL + 1)).encode(), DECLARED, "at most 8 are allowed"),
    ],
)
def test_other_headers_are_rejected(value: bytes, declared: frozenset[str], message: str) -> None:
    with pytest.raises(BadRequest, match=message) as error:
        read_tags(value, declared)
    assert error.value.param == "x-gateway-tags"


@each(
    "fields, tags",
    [
        ({"metadata": {"tags": "b, a,unknown"}}, ("a", "b")),
        ({"metadata": {"tags": ["a"]}}, ()),
        ({"metadata": {"other": "a"}}, ()),
        ({"metadata": None}, ()),
        ({"metadata": "a"}, ()),
        ({}, ()),
        ({"metadata": {"tags": ",".join(sorted(DECLARED))}}, tuple(sorted(DECLARED)[:MAX_TAGS_PER_CALL])),
    ],
)
def test_metadata_has_the_declared_tags_among_its_own_content(fields: dict[str, Any], tags: tuple[str, ...]) -> None:
    assert tags_of_metadata(parse_body(msgspec.json.encode(fields)), DECLARED) == tags
    assert tags_of_metadata(None, DECLARED) == ()


@each(
    "header, metadata, tags",
    [
        (("a",), "b", ("a", "b")),
        (("b",), "b,a", ("a", "b")),
        (("b",), "unknown", ("b",)),
        ((), "b,a", ("a", "b")),
        (("t0", "t1", "t2", "t3", "t4", "t5", "t6"), "b,a,t0", ("a", "t0", "t1", "t2", "t3", "t4", "t5", "t6")),
        (("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"), "a", ("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7")),
    ],
)
def test_tags_in_metadata_are_added_to_those_of_the_header(header: tuple[str, ...], metadata: str, tags: tuple[str, ...]) -> None:
    assert with_metadata(header, parse_body(msgspec.json.encode({"metadata": {"tags": metadata}})), DECLARED) == tags
    assert with_metadata(header, None, DECLARED) == header


def test_a_repeated_header_has_at_most_as_many_tags_as_one() -> None:
    lines = [(b"x-gateway-tags", b"t%d,t%d" % (number, number + 1)) for number in range(0, MAX_TAGS_PER_CALL + 2, 2)]
    known = known_headers(tags=DECLARED)
    for read in (lambda headers: read_gateway_headers(headers, (), DECLARED).tags, lambda headers: gateway_tags(headers, known)):
        assert read(lines[:2]) == ("t0", "t1", "t2", "t3")
        assert read([(b"x-gateway-tags", b"a"), (b"x-gateway-tags", b"")]) == ("a",)
        with pytest.raises(BadRequest, match="at most 8"):
            read(lines)
