"""The table of embeddings endpoints: complete, dated, and equal to what the strict endpoints of the tests accept."""

from __future__ import annotations

import datetime

import providers
from providers.embedding_table import ANY_SERVER, EMBEDDINGS
from providers.openai_compatible import OpenAICompatible
from tests.providers.strict_embeddings import ENDPOINTS


def test_each_provider_with_an_embeddings_path_has_a_row() -> None:
    offering = set()
    for kind in providers.OURS:
        provider = providers.get(kind)
        assert isinstance(provider, OpenAICompatible)
        if "embeddings" in provider.wire.paths:
            offering.add(kind)
    assert offering - {"openai-compatible"} == set(EMBEDDINGS)


def test_each_row_has_a_source_and_a_date() -> None:
    for row in (*EMBEDDINGS.values(), ANY_SERVER):
        assert row.source
        assert datetime.date.fromisoformat(row.as_of) >= datetime.date(2026, 11, 1)


def test_each_row_is_tested_at_a_strict_endpoint() -> None:
    assert set(EMBEDDINGS) - {"local"} == set(ENDPOINTS)
