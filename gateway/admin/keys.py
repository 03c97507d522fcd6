"""/admin/keys: lists virtual keys, and creates, changes and revokes them at run time. A secret is returned only on creation."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.admin.key_json import key_from_json, key_to_json
from gateway.config.key import KeyConfig
from gateway.config.problem import ConfigError
from gateway.errors import BadRequest, GatewayError, NotFound, Unavailable
from gateway.http.json_body import parse_body, read_body_in_time
from gateway.keys.store import RuntimeKey
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

KEY_PREFIX = "lg-"
MAX_BODY_BYTES = 64 << 10
BODY_TIMEOUT_S = 30.0
READ_ONLY_FIELDS = ("hash", "created", "key")
"""Fields of the response that a request must not set."""


class KeyAdmin:
    """The endpoints under /admin/keys of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        """GET /admin/keys: list all keys, those of the configuration and those created at run time."""
        entries = [_key_json(key, "yaml") for key in self._gateway.config.keys.values()]
        entries += [_runtime_key_json(key) for key in self._gateway.runtime_keys.keys.values()]
        return json_response({"object": "list", "data": entries})

    async def show(self, request: Request) -> Response:
        """GET /admin/keys/{name}: return one key."""
        name = request.path_params["name"]
        runtime_key = self._gateway.runtime_keys.keys.get(name)
        if runtime_key is not None:
            return json_response(_runtime_key_json(runtime_key))
        key = self._gateway.config.keys.get(name)
        if key is None:
            raise _key_not_found(name)
        return json_response(_key_json(key, "yaml"))

    async def create(self, request: Request) -> Response:
        """POST /admin/keys: create a key. Only this response contains the secret."""
        config = self._gateway.config
        fields = {name: value for name, value in (await _read_body(request)).items() if value is not None}
        name = fields.pop("name", None)
        if not isinstance(name, str):
            raise BadRequest("'name' is required and must be a string.", param="name")
        if not config.requires_keys:
            raise GatewayError(
                "Authentication is off, so a new key would protect nothing. Set 'auth: keys' and admin.key_hash in the "
                "configuration, or add a first key there: lockgate key create prints one.",
                status=409, code="keys_not_checked", type="invalid_request_error",
            )  # fmt: skip
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        entry = _read_key(self._gateway, name, {**fields, "hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest()})
        if name in config.keys:
            raise _conflict(f"The key '{name}' is defined in the configuration. Choose another name.")
        shown = f"{secret[:6]}...{secret[-4:]}"
        try:
            runtime_key = await self._gateway.runtime_keys.add(entry, shown)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        if runtime_key is None:
            raise _conflict(f"The key '{name}' already exists. Revoke it first, or choose another name.")
        self._log_change("key_made", runtime_key)
        answer = {**_runtime_key_json(runtime_key), "key": secret}
        if self._gateway.runtime_keys.store.is_volatile:
            answer["note"] = (
                "journal is off: this key is lost on restart. Set journal to a folder or store to a Redis URL to keep it."
            )
        return json_response(answer, 201)

    async def change(self, request: Request) -> Response:
        """PATCH /admin/keys/{name}: change the fields in the request; null resets a field. Other fields stay unchanged."""
        fields = await _read_body(request)
        runtime_key = self._find_runtime_key(request.path_params["name"])
        merged = {name: value for name, value in {**key_to_json(runtime_key.entry), **fields}.items() if value is not None}
        entry = _read_key(self._gateway, runtime_key.entry.name, merged, check_expiry="expires" in fields)
        changed = msgspec.structs.replace(runtime_key, entry=entry)
        try:
            if not await self._gateway.runtime_keys.replace(changed):
                raise _key_not_found(entry.name)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        self._log_change("key_changed", changed)
        return json_response(_runtime_key_json(changed))

    async def revoke(self, request: Request) -> Response:
        """DELETE /admin/keys/{name}: revoke a key. Every process rejects it within two seconds."""
        name = request.path_params["name"]
        runtime_key = self._find_runtime_key(name)
        try:
            if not await self._gateway.runtime_keys.revoke(name):
                raise _key_not_found(name)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        self._log_change("key_revoked", runtime_key)
        return json_response({"object": "key", "name": name, "revoked": True})

    def _log_change(self, what: str, key: RuntimeKey) -> None:
        """Log a change with the masked key."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": "info", "event": what, "key": key.entry.name, "shown": key.shown, "disabled": key.entry.disabled}
        self._gateway.log.write(msgspec.json.encode(line) + b"\n")

    def _find_runtime_key(self, name: str) -> RuntimeKey:
        runtime_key = self._gateway.runtime_keys.keys.get(name)
        if runtime_key is None and name in self._gateway.config.keys:
            raise _conflict(f"The key '{name}' is defined in the configuration. Change it there and reload; 'disabled: true' disables it.")
        if runtime_key is None:
            raise _key_not_found(name)
        return runtime_key


def _runtime_key_json(key: RuntimeKey) -> dict[str, Any]:
    return {**_key_json(key.entry, "runtime"), "shown": key.shown, "created": int(key.created)}


def _key_json(key: KeyConfig, source: str) -> dict[str, Any]:
    return {"object": "key", "name": key.name, "source": source, "disabled": False, **key_to_json(key)}


async def _read_body(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request. Reject fields that only the gateway sets."""
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
    for name in READ_ONLY_FIELDS:
        if name in values:
            raise BadRequest(f"'{name}' is read-only. Remove it from the request.", param=name, code="unsupported_parameter")
    return values


def _reject_duplicates(name: str, source: bytes) -> None:
    """Reject a block that contains a field twice, as the YAML reader does."""
    try:
        parse_body(source)
    except BadRequest as error:
        raise BadRequest(str(error), param=f"{name}.{error.param}" if error.param else name, code=error.code) from None


def _read_key(gateway: Gateway, name: str, entry: dict[str, Any], *, check_expiry: bool = True) -> KeyConfig:
    try:
        return key_from_json(gateway.config, name, entry, check_expiry=check_expiry)
    except ConfigError as error:
        problems = [(problem.path.removeprefix(f"keys.{name}."), problem.message) for problem in error.problems]
        text = "; ".join(f"{path}: {message}" for path, message in problems)
        raise BadRequest(text, param=problems[0][0]) from None


def _key_not_found(name: str) -> NotFound:
    return NotFound(f"Unknown key '{name[:80]}'.", code="key_not_found")


def _conflict(message: str) -> GatewayError:
    return GatewayError(message, status=409, code="key_exists", type="invalid_request_error")


def _store_unavailable(error: StoreUnavailableError) -> Unavailable:
    return Unavailable(f"No key was changed: the store is unavailable ({error}). Try again later.", code="store_unavailable")
