"""docs/providers.md matches the parameter rules."""

from __future__ import annotations

from providers import table
from providers.rules.rule import CANONICAL_PARAMS
from tests.providers.cases import FIXTURES

PAGE = FIXTURES.parents[1] / "docs" / "providers.md"


def test_page_is_generated_from_the_rules() -> None:
    assert PAGE.read_text() == table.page(), "run `python -m providers.table > docs/providers.md`"


def test_matrices_list_every_common_parameter_once() -> None:
    listed = [name for names in table.GROUPS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert set(listed) >= CANONICAL_PARAMS
