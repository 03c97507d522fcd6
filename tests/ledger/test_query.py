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


@each(
    ("params", "start", "end"),
    [
        ({"to": "2026-12-05"}, "2026-11-01", "2026-12-05"),
        ({"to": "2026-11-05"}, "2026-11-01", "2026-11-05"),
        ({"from": "2026-11-21"}, "2026-11-21", "2026-11-21"),
        ({"from": "2025-10-18"}, "2025-10-18", "2026-11-21"),  # 400 days
        ({"from": "2025-10-17"}, None, None),
        ({"from": "2026-11-20", "to": "2026-11-19"}, None, None),
        ({"from": "20261101"}, None, None),
        ({"from": "2026-W45-1"}, None, None),
        ({"from": "2026-11-31"}, None, None),
    ],
)
def test_a_range_has_at_least_one_day_and_at_most_those_that_are_kept(params: dict[str, str], start: str | None, end: str | None) -> None:
    if start is None or end is None:
        with pytest.raises(BadQueryError):
            read_query(params, TODAY)
        return
    query = read_query(params, TODAY)
    assert (str(query.start), str(query.end), query.group_by) == (start, end, "key")
    days = query.days()
    assert (days[0], days[-1], len(set(days))) == (start, end, len(days))
    assert len(days) == (query.end - query.start).days + 1 <= 400
    assert days == sorted(days)


def test_a_refused_query_says_what_is_possible() -> None:
    for params, message in (
        ({"by": "c" * 50}, f"'{'c' * 40}' is not a column: use key, team, model, target, day, tag"),
        ({"to": "d" * 50}, f"'{'d' * 40}' is not a date: use the form 2026-11-21"),
        ({"from": "2026-11-22"}, "2026-11-22 is after the last day, 2026-11-21: choose an earlier first day"),
        ({"from": "2020-01-01"}, "the range exceeds 400 days: choose a later first day"),
    ):
        with pytest.raises(BadQueryError) as error:
            read_query(params, TODAY)
        assert str(error.value) == message


def test_the_first_and_the_last_day_count_and_no_other() -> None:
    rows = {UsageRow(f"2026-11-{day:02}", "a", "", "m", "up/m"): UsageCounts(10**day) for day in range(1, 9)}
    query = read_query({"from": "2026-11-03", "to": "2026-11-05"}, TODAY)
    assert [line.counts.requests for line in sum_usage(rows, query)] == [111_000]
    assert total(rows, query) == UsageCounts(111_000)
    assert total({}, query) == UsageCounts()


def test_equal_costs_are_ordered_by_requests_and_then_by_name() -> None:
    counts = {"d": (1, 5), "c": (2, 5), "b": (2, 5), "a": (9, 4), "e": (0, 6)}
    rows = {UsageRow("2026-11-21", "k", name, "m", "t"): UsageCounts(requests, cost=cost) for name, (requests, cost) in counts.items()}
    assert [line.name for line in sum_usage(rows, read_query({"by": "team"}, TODAY))] == ["e", "b", "c", "d", "a"]


@each("column", ["key", "team", "model", "target"])
def test_usage_is_grouped_by_any_column(column: str) -> None:
    row = UsageRow("2026-11-21", "a key", "a team", "a model", "a target", "a tag")
    query = read_query({"by": column}, TODAY)
    (line,) = sum_usage({row: UsageCounts(1, 2, 3, 4, 5, 6, 7, 8, 9)}, query)
    assert line.name == f"a {column}"
    assert usage_csv([line], query) == (
        f"{column},requests,prompt_tokens,cached_tokens,output_tokens,reasoning_tokens,cost_nanodollars,estimated,unpriced,"
        f"brought_cost_nanodollars,cost_usd\r\na {column},1,2,3,4,5,6,7,8,9,0.000000006\r\n"
    )


@each(("name", "shown"), [(f"{sign}x", f"'{sign}x") for sign in "=+-@"] + [("x=", "x="), ("", ""), ("\tx", "'\tx"), ("\rx", '"\'\rx"')])
def test_a_formula_is_not_run_by_a_spreadsheet(name: str, shown: str) -> None:
    query = read_query({}, TODAY)
    text = usage_csv(sum_usage({UsageRow("2026-11-21", name, "", "m", "t"): UsageCounts(1)}, query), query)
    assert text.split("\r\n", 1)[1].startswith(f"{shown},1,0,")


@each(("nano", "usd"), [(0, "0.000000000"), (999_999_999, "0.999999999"), (10**9, "1.000000000"), (12_345_678_901, "12.345678901")])
def test_dollars_have_nine_decimal_places(nano: int, usd: str) -> None:
    assert format_usd(nano) == usd
