"""Common parts of the endpoints of keys and teams: reading a body, checking an entry, describing changes, errors, log lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from gateway.admin import merge_patch
from gateway.config.key import KeyConfig, TeamConfig
from gateway.config.problem import ConfigError
from gateway.errors import BadRequest, GatewayError, NotFound, Unavailable
from gateway.http.json_body import parse_body, read_body_in_time
from gateway.keys.limit_states import limit_states, limits_of_entry
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

MAX_BODY_BYTES = 64 << 10
BODY_TIMEOUT_S = 30.0
READ_ONLY_FIELDS = ("hash", "created", "key", "object", "source", "shown", "usage", "previous")
"""Fields of the response that a request must not set."""
Config_ = TypeVar("Config_", KeyConfig, TeamConfig)


async def read_fields(request: Request, read_only: Sequence[str] = READ_ONLY_FIELDS) -> dict[str, Any]:
    """Return the JSON object of a request. Reject the fields in `read_only`, which only the gateway sets."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a cross-site page cannot send this type without a CORS preflight
        raise BadRequest("The content-type must be application/json.", status=415, code="unsupported_media_type")
    source = await read_body_in_time(request.receive, MAX_BODY_BYTES, BODY_TIMEOUT_S)
    body = parse_body(source)
    for name, raw in body.items():
        if bytes(raw).startswith(b"{"):
            _reject_duplicates(name, bytes(raw))
    try:
        values: dict[str, Any] = msgspec.json.decode(source)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    for name in read_only:
        if name in values:
            raise BadRequest(f"'{name}' is read-only. Remove it from the request.", param=name, code="unsupported_parameter")
    return values


def _reject_duplicates(name: str, source: bytes) -> None:
    """Like the YAML reader, reject a block that contains a field twice."""
    try:
        parse_body(source)
    except BadRequest as error:
        raise BadRequest(str(error), param=f"{name}.{error.param}" if error.param else name, code=error.code) from None


def take_name(fields: dict[str, Any]) -> str:
    """Remove the name from the fields of a new entry, and return it."""
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise BadRequest("'name' is required and must be a string.", param="name")
    return name


def check_entry(section: str, name: str, read: Callable[[], Config_]) -> Config_:
    """Return the entry that `read` reads. If the entry has problems, raise one BadRequest that names them all."""
    try:
        return read()
    except ConfigError as error:
        problems = [(problem.path.removeprefix(f"{section}.{name}."), problem.message) for problem in error.problems]
        text = "; ".join(f"{path}: {message}" for path, message in problems)
        raise BadRequest(text, param=problems[0][0]) from None


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the response that list what a change has removed, changed and added."""
    removed, added = merge_patch.removed(before, after), merge_patch.removed(after, before)
    return {"removed": removed, "changed": merge_patch.changed(before, after), "added": added}


async def with_usage(gateway: Gateway, shown: list[tuple[dict[str, Any], KeyConfig | TeamConfig]]) -> list[dict[str, Any]]:
    """Return the fields of each entry with the usage of its limits, as `usage`.

    The usage of a limited entry is null while the store is unavailable.
    """
    limits = [limits_of_entry(entry) for _, entry in shown]
    try:
        usages = await gateway.limit_usage([limit for each in limits for limit in each])
    except StoreUnavailableError:
        return [{**fields, "usage": None if own else []} for (fields, _), own in zip(shown, limits, strict=True)]
    by_key = {usage.limit.key: usage for usage in usages}
    return [
        {**fields, "usage": limit_states(by_key[limit.key] for limit in own)}
        for (fields, _), own in zip(shown, limits, strict=True)
    ]


def log_change(gateway: Gateway, event: str, **fields: Any) -> None:
    """Log a change to a key or team."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    gateway.log.write(msgspec.json.encode({"time": at, "level": "info", "event": event, **fields}) + b"\n")


def not_found(kind: str, name: str, *, code: str) -> NotFound:
    """Return the error for an unknown key or team."""
    return NotFound(f"Unknown {kind} '{name[:80]}'.", code=code)


def conflict(message: str, *, code: str) -> GatewayError:
    """Return the error for a change that the present state does not allow."""
    return GatewayError(message, status=409, code=code, type="invalid_request_error")


def store_unavailable(kind: str, error: StoreUnavailableError) -> Unavailable:
    """Return the error for a change that the store could not record."""
    return Unavailable(f"No {kind} was changed: the store is unavailable ({error}). Try again later.", code="store_unavailable")
