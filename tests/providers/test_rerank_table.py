"""The table of rerank endpoints: complete, dated, and equal to what the strict endpoints of the tests accept."""

from __future__ import annotations

import datetime

import providers
from providers.openai_compatible import OpenAICompatible
from providers.rerank_table import ANY_RERANKER, RERANK_FIELDS, RERANKS
from tests.providers.strict_rerank import RERANKERS


def test_each_provider_with_a_rerank_path_has_a_row_and_a_strict_endpoint() -> None:
    offering = set()
    for kind in providers.OURS:
        provider = providers.get(kind)
        assert isinstance(provider, OpenAICompatible)
        if "rerank" in provider.wire.paths:
            offering.add(kind)
    assert offering - {"openai-compatible"} == set(RERANKS)
    assert offering - {"local"} == set(RERANKERS), "tests/local use the real engine"


def test_each_row_has_a_source_a_date_and_known_fields() -> None:
    for row in (*RERANKS.values(), ANY_RERANKER):
        assert row.source
        assert datetime.date.fromisoformat(row.as_of) >= datetime.date(2026, 11, 1)
        assert set(row.accepts.split()) <= set(RERANK_FIELDS)
