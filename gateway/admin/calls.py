"""GET /admin/calls and /admin/calls/ID: the records of past calls."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.errors import BadRequest, NotFound, Unavailable
from gateway.runtime.gateway import Gateway
from gateway.telemetry.call_records import records_path
from gateway.telemetry.record_query import (
    PARAMS,
    BadRecordQueryError,
    FoundRecords,
    find_record,
    find_records,
    found_json,
    read_record_query,
)

Endpoint = Callable[[Request], Awaitable[Response]]


def list_calls(gateway: Gateway) -> Endpoint:
    """Return the endpoint that lists the calls that match the query, the latest first, with the totals of all that match."""

    async def calls(request: Request) -> Response:
        params = request.query_params
        for name in params:
            if name not in PARAMS:
                raise BadRequest(f"Unknown query parameter '{name[:40]}'. Supported: {', '.join(PARAMS)}.", param=name[:40])
            if len(params.getlist(name)) > 1:
                raise BadRequest(f"The query parameter '{name}' is repeated. Send it once.", param=name)
        try:
            query = read_record_query(params, time.time())
        except BadRecordQueryError as error:
            raise BadRequest(f"{error.param}: {error}.", param=error.param) from None
        path = await _readable_file(gateway)
        try:
            found: FoundRecords = await asyncio.to_thread(find_records, path, query)
        except sqlite3.Error as error:
            raise _unreadable(error) from None
        return json_response(found_json(found))

    return calls


def show_call(gateway: Gateway) -> Endpoint:
    """Return the endpoint that shows the calls with one request id. Several calls may share an id that the caller chose."""

    async def call(request: Request) -> Response:
        path, id = await _readable_file(gateway), request.path_params["id"]
        try:
            found = await asyncio.to_thread(find_record, path, id)
        except sqlite3.Error as error:
            raise _unreadable(error) from None
        if not found:
            raise NotFound("No call with this id is recorded.", code="call_not_found")
        return json_response({"object": "list", "data": found})

    return call


async def _readable_file(gateway: Gateway) -> Path:
    """Wait until all calls that have ended are written, and return the file. Raise NotFound if calls are not recorded."""
    records = gateway.log.records
    if records is not None:
        await records.flush()
    path = records_path(gateway.config, os.environ)
    if path is None:
        message = "Calls are not recorded: 'calls.max_bytes' is 0, or the gateway has no folder for state ('journal')."
        raise NotFound(message, code="calls_not_recorded")
    return path


def _unreadable(error: sqlite3.Error) -> Unavailable:
    return Unavailable(f"The records of calls cannot be read: {error}.", code="calls_unreadable")
