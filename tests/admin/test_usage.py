"""GET /admin/usage: its parameters and formats."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from gateway.admin.usage import usage
from gateway.ledger.counters import UsageCounts, UsageRow
from gateway.ledger.records import RowCopy
from tests.admin.conftest import Admin, request_with


@pytest.mark.parametrize(
    ("query", "param", "message"),
    [
        ("month=5", "month", "Unknown query parameter 'month'. Supported: by, format, from, to."),
        ("by=key&by=team", "by", "The query parameter 'by' is repeated. Send it once."),
        ("format=xml", "format", "'format' must be 'json' or 'csv'."),
    ],
)
async def test_an_invalid_query_is_rejected(admin: Admin, query: str, param: str, message: str) -> None:
    answer = await admin.client.get(f"/admin/usage?{query}")
    assert (answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["message"]) == (400, param, message)


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", "text/csv")])
async def test_csv_is_chosen_by_parameter_or_header(admin: Admin, query: str, accept: str) -> None:
    answer = await admin.client.get(f"/admin/usage{query}", headers={"accept": accept})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.startswith("key,requests")


async def test_with_a_memory_store_the_usage_is_that_of_the_process(admin: Admin) -> None:
    assert (await admin.client.get("/admin/usage")).json()["source"] == "process"


@pytest.mark.parametrize(("is_complete", "source"), [(True, "workers"), (False, "some_workers")])
async def test_a_supervisor_without_a_store_sums_its_workers_and_says_so(admin: Admin, is_complete: bool, source: str) -> None:
    row = UsageRow(admin.gateway.ledger.today(), "first", "", "m", "up/mock")

    async def workers(days: Sequence[str]) -> tuple[list[RowCopy], bool]:
        assert row.day in days
        return [("one", row, UsageCounts(3)), ("two", row, UsageCounts(4))], is_complete

    admin.gateway.worker_usage = workers
    answer = (await admin.client.get("/admin/usage")).json()
    assert (answer["source"], answer["total"]["requests"]) == (source, 7)


async def test_usage_of_today_is_summed_by_model(admin: Admin) -> None:
    row = UsageRow(admin.gateway.ledger.today(), "first", "", "m", "up/mock")
    admin.gateway.ledger.counters.add(row, UsageCounts(requests=2, prompt=5, output=7))
    answer = json.loads((await usage(admin.gateway)(request_with(query="by=model"))).body)
    assert [(line["model"], line["requests"], line["output_tokens"]) for line in answer["rows"]] == [("m", 2, 7)]
