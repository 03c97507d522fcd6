"""Every request of the conformance vectors becomes what the provider's facts say, and is reported as made."""

from __future__ import annotations

import pytest

from tests.providers.cases import Case, by_mode, differences, load, send_purely

CASES = list(by_mode(load("request_cases")))


@pytest.mark.parametrize(("case", "strict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_request_becomes_what_the_facts_say(case: Case, strict: bool) -> None:
    assert differences(case, send_purely(case, strict)) == []


def test_the_vectors_are_all_there() -> None:
    assert len(load("request_cases")) == 203
    assert len(load("response_cases")) == 31
