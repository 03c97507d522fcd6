"""GET /admin/usage: usage by key, team, model, target, tag or day, as JSON or CSV."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import date

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.config.store_address import store_address
from gateway.errors import BadRequest
from gateway.http.request_id import next_id
from gateway.ledger.counters import UsageCounts, UsageRow, merge_copies
from gateway.ledger.query import BadQueryError, read_query, sum_usage, total, usage_csv
from gateway.ledger.query import usage_json as answer_of
from gateway.ledger.store import read_usage
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

SUPPORTED_PARAMS = frozenset({"by", "from", "to", "format"})


def usage(gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint.

    `source` in the response names the processes whose usage the response contains.
    """

    async def answer(request: Request) -> Response:
        params = dict(request.query_params)
        unknown = sorted(set(params) - SUPPORTED_PARAMS)
        if unknown:
            raise BadRequest(
                f"Unknown query parameter '{unknown[0][:40]}'. Supported: {', '.join(sorted(SUPPORTED_PARAMS))}.", param=unknown[0][:40]
            )
        form = params["format"] if "format" in params else ("csv" if "text/csv" in request.headers.get("accept", "") else "json")
        repeated = [name for name in params if len(request.query_params.getlist(name)) > 1]
        if repeated:
            raise BadRequest(f"The query parameter '{repeated[0]}' is repeated. Send it once.", param=repeated[0])
        if form not in ("json", "csv"):
            raise BadRequest("'format' must be 'json' or 'csv'.", param="format")
        try:
            query = read_query(params, date.fromisoformat(gateway.ledger.today()))
        except BadQueryError as error:
            raise BadRequest(f"{error.param}: {error}.", param=error.param) from None
        rows, source = await _read_rows(gateway, query.days())
        lines = sum_usage(rows, query)
        if form == "csv":
            return Response(usage_csv(lines, query), 200, {"x-request-id": next_id()}, "text/csv; charset=utf-8")
        return json_response(answer_of(lines, query, source, total(rows, query)))

    return answer


async def _read_rows(gateway: Gateway, days: Sequence[str]) -> tuple[dict[UsageRow, UsageCounts], str]:
    """Return the usage of the given days, and its source.

    The source is `store` for the usage of all processes that share a store. If there is no shared store, or while it is
    unavailable, the source is `process` for this process or, in a supervisor, `workers` (`some_workers` if not all of
    them answer).
    """
    own = [copy for copy in gateway.ledger.counters.all_copies() if copy[1].day in days]
    if not gateway.config.store.startswith("memory:"):
        with suppress(StoreUnavailableError):
            return merge_copies([*own, *await read_usage(store_address(gateway.config), days)]), "store"
    if gateway.worker_usage is None:
        return merge_copies(own), "process"
    copies, is_complete = await gateway.worker_usage(days)
    return merge_copies([*own, *copies]), "workers" if is_complete else "some_workers"
