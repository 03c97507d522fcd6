"""The page on providers is what the rules say today."""

from __future__ import annotations

from providers import table
from tests.providers.cases import FIXTURES

PAGE = FIXTURES.parents[1] / "docs" / "providers.md"


def test_the_page_is_made_from_the_rules() -> None:
    assert PAGE.read_text() == table.page(), "run `python -m providers.table > docs/providers.md`"
