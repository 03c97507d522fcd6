"""Every status that the source can send is documented."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.errors import FAILURES, GatewayError
from gateway.openapi import errors

ROOT = Path(__file__).parents[2]


def test_every_status_of_an_error_has_a_response() -> None:
    source = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py") if path.parent.name != "openapi")
    written = {int(status) for status in re.findall(r"status=(4\d\d|5\d\d)\b", source)}
    classes = {each.status for each in GatewayError.__subclasses__()}
    documented = {int(name[-3:]) for name in errors.components() if name[-1].isdigit()}
    assert (written | classes | {row.status for row in FAILURES.values()}) - documented == set()


def test_groups_of_statuses_contain_each_other() -> None:
    assert errors.ANY < errors.KEYED < errors.READ < errors.CALL
    assert 401 not in errors.ANY
    assert {502, 504, 429} <= errors.CALL - errors.READ


def test_responses_refer_to_components() -> None:
    found = errors.responses(errors.CALL, "Error", is_call=True)
    names = {response["$ref"].rpartition("/")[2] for response in found.values()}
    assert names <= set(errors.components())
    assert found["4XX"] == {"$ref": "#/components/responses/ErrorCall4XX"}
