"""Usage queries: parameters, sums, JSON and CSV."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.ledger.counters import UsageCounts, UsageRow
from gateway.ledger.query import BadQueryError, UsageQuery, format_usd, read_query, sum_usage, total, usage_csv, usage_json
from tests.support.each import each

TODAY = date(2026, 11, 21)
ROWS = {
    UsageRow("2026-11-20", "a", "", "m", "up/m"): UsageCounts(requests=1, prompt=10, cost=5),
    UsageRow("2026-11-21", "a", "", "m", "up/m"): UsageCounts(requests=2, prompt=20, cost=6),
    UsageRow("2026-11-21", "=b", "", "m", "up/m"): UsageCounts(requests=3, prompt=30, cost=2_000_000_007),
    UsageRow("2026-10-31", "a", "", "m", "up/m"): UsageCounts(requests=100),
}


def test_the_default_is_the_current_month_by_key() -> None:
    assert read_query({}, TODAY) == UsageQuery("key", date(2026, 11, 1), TODAY)
    assert read_query({"to": "2026-09-30"}, TODAY).start == date(2026, 9, 1)


@each(
    ("params", "param"),
    [
        ({"by": "colour"}, "by"),
        ({"from": "2026-11-22"}, "from"),
        ({"to": "2026-W47-6"}, "to"),
        ({"from": "21.11.2026"}, "from"),
        ({"from": "2020-01-01"}, "from"),
    ],
)
def test_an_invalid_parameter_is_named(params: dict[str, str], param: str) -> None:
    with pytest.raises(BadQueryError) as error:
        read_query(params, TODAY)
    assert error.value.param == param


def test_sums_are_by_descending_cost_and_days_in_order() -> None:
    by_key = sum_usage(ROWS, read_query({}, TODAY))
    assert [(line.name, line.counts.requests) for line in by_key] == [("=b", 3), ("a", 3)]
    by_day = sum_usage(ROWS, read_query({"by": "day"}, TODAY))
    assert [line.name for line in by_day] == ["2026-11-20", "2026-11-21"]
    assert total(ROWS, read_query({}, TODAY)).requests == sum(line.counts.requests for line in by_day)


def test_a_call_counts_for_each_of_its_tags_and_once_in_the_total() -> None:
    rows = {
        UsageRow("2026-11-21", "a", "", "m", "up/m", "batch,search"): UsageCounts(requests=1, cost=5),
        UsageRow("2026-11-21", "a", "", "m", "up/m", "search"): UsageCounts(requests=2, cost=7),
        UsageRow("2026-11-21", "a", "", "m", "up/m"): UsageCounts(requests=4),
    }
    query = read_query({"by": "tag"}, TODAY)
    lines = sum_usage(rows, query)
    assert [(line.name, line.counts.requests, line.counts.cost) for line in lines] == [("search", 3, 12), ("batch", 1, 5), ("", 4, 0)]
    assert usage_json(lines, query, "process", total(rows, query))["total"]["requests"] == 7


def test_json_contains_rows_and_their_total() -> None:
    query = read_query({}, TODAY)
    answer = usage_json(sum_usage(ROWS, query), query, "process", total(ROWS, query))
    assert (answer["by"], answer["from"], answer["to"], answer["source"]) == ("key", "2026-11-01", "2026-11-21", "process")
    assert answer["rows"][1] == {
        "key": "a", "requests": 3, "prompt_tokens": 30, "cached_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0,
        "cost_nanodollars": 11, "estimated": 0, "unpriced": 0,
        "brought_cost_nanodollars": 0, "cost_usd": 11 / 1_000_000_000,
    }  # fmt: skip
    assert answer["total"]["requests"] == 6


def test_csv_escapes_formulas_and_has_exact_dollars() -> None:
    query = read_query({}, TODAY)
    lines = usage_csv(sum_usage(ROWS, query), query).split("\r\n")
    assert lines[0].startswith("key,requests,prompt_tokens,")
    assert lines[1].startswith("'=b,3,30,")
    assert lines[1].endswith(",2.000000007")
    assert format_usd(11) == "0.000000011"
