"""GET /admin/calls and /admin/calls/ID: the records of past calls."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TypeVar
from weakref import finalize

import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.config.state_folder import state_folder
from gateway.config.store_address import store_address
from gateway.config.types import Config
from gateway.errors import BadRequest, NotFound, Unavailable
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError
from gateway.telemetry.call_records import records_path
from gateway.telemetry.record_copy import COPY_NAME, RecordCopy
from gateway.telemetry.record_query import (
    PARAMS,
    BadRecordQueryError,
    find_content,
    find_record,
    find_records,
    found_json,
    read_record_query,
)

T = TypeVar("T")


class CallEndpoints:
    """The endpoints of one gateway.

    The endpoints read the gateway's file of records, or a copy of the records that all gateways share.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._copy: RecordCopy | None = None

    async def list_calls(self, request: Request) -> Response:
        """List the calls that match the query, by default the latest first, with the totals of all that match."""
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
        found = await self._read(partial(find_records, query=query))
        return json_response(found_json(found))

    async def show_call(self, request: Request) -> Response:
        """Show the calls with one request id. Several calls may share an id that the caller chose."""
        wanted = request.query_params.get("content", "false")
        if wanted not in ("true", "false") or len(request.query_params) > ("content" in request.query_params):
            raise BadRequest("The only query parameter is 'content', which is true or false.", param="content")
        found = await self._read(partial(find_record, id=request.path_params["id"]))
        if not found:
            raise NotFound("No call with this id is recorded.", code="call_not_found")
        if wanted == "true":
            found = await self._read(lambda path: [self._with_content(record, path) for record in found])
        return json_response({"object": "list", "data": found})

    def _with_content(self, record: Raw, path: Path) -> Raw:
        """Return a record with the captured content of its call, which is null if there is none."""
        fields, kept = msgspec.json.decode(record), self._gateway.config.calls
        if self._copy is not None:
            content = self._copy.content(fields["id"])
        else:
            content = find_content(path, fields["id"], time.time() - kept.content_ttl)
        return Raw(msgspec.json.encode({**fields, "content": content}))

    async def _read(self, find: Callable[[Path], T]) -> T:
        """Wait until the records of all ended calls of this process are written, and return the result of `find` on the file."""
        records = self._gateway.log.records
        if records is not None:
            await records.flush()
        try:
            return await asyncio.to_thread(lambda: find(self._readable_file()))
        except (OSError, sqlite3.Error, StoreUnavailableError) as error:
            raise Unavailable(f"The records of calls cannot be read: {error}.", code="calls_unreadable") from None

    def _readable_file(self) -> Path:
        """Return the file, brought up to date if it is a copy. Raise NotFound if calls are not recorded."""
        config = self._gateway.config
        if config.calls.store == "redis" and config.calls.max_bytes:
            if self._copy is None:
                self._copy = RecordCopy(store_address(config), self._copy_folder(config) / COPY_NAME)
            self._copy.refresh()
            return self._copy.path
        path = records_path(config, os.environ)
        if path is None:
            message = "Calls are not recorded: 'calls.max_bytes' is 0, or the gateway has no folder for state ('journal')."
            raise NotFound(message, code="calls_not_recorded")
        return path

    def _copy_folder(self, config: Config) -> Path:
        if (folder := state_folder(config, os.environ)) is not None:
            return folder
        temporary = mkdtemp(prefix="lockgate-calls-")
        finalize(self, rmtree, temporary, ignore_errors=True)
        return Path(temporary)
