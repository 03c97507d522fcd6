"""/admin/keys: the virtual keys there are, and making, changing and revoking them at run time. A key is answered once, when made."""

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
from gateway.config.formats import Address
from gateway.config.problem import ConfigError
from gateway.config.types import KeyConfig
from gateway.errors import BadRequest, Forbidden, GatewayError, NotFound, Unavailable
from gateway.http.json_body import parse_body, read_body
from gateway.keys.runtime_keys import RuntimeKey
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

KEY_PREFIX = "lg-"
MAX_BODY_BYTES = 64 << 10
READ_ONLY_FIELDS = ("hash", "created", "key")
"""What the answer has and nobody may ask for."""


class KeyAdmin:
    """The endpoints, over one Gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        """GET /admin/keys: every key, from the configuration and made at run time."""
        _check_host(self._gateway, request)
        found = [_key_json(key, "yaml") for key in self._gateway.config.keys.values()]
        found += [_runtime_key_json(key) for key in self._gateway.made_keys.keys.values()]
        return json_response({"object": "list", "data": found})

    async def show(self, request: Request) -> Response:
        """GET /admin/keys/{name}: one of them."""
        _check_host(self._gateway, request)
        name = request.path_params["name"]
        made = self._gateway.made_keys.keys.get(name)
        if made is not None:
            return json_response(_runtime_key_json(made))
        key = self._gateway.config.keys.get(name)
        if key is None:
            raise _key_not_found(name)
        return json_response(_key_json(key, "yaml"))

    async def create(self, request: Request) -> Response:
        """POST /admin/keys: a new key, answered this once."""
        _check_host(self._gateway, request)
        config = self._gateway.config
        asked = {name: value for name, value in (await _read_body(request)).items() if value is not None}
        name = asked.pop("name", None)
        if not isinstance(name, str):
            raise BadRequest("A key needs a name: text, under which it is listed and revoked.", param="name")
        if not config.requires_keys:
            raise GatewayError(
                "This gateway serves everybody without a key, so one made here would protect nothing. Write 'auth: keys' and an "
                "admin.key_hash into its configuration, or a first key under keys: lockgate key create prints one.",
                status=409, code="keys_not_checked", type="invalid_request_error",
            )  # fmt: skip
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        entry = _read_key(self._gateway, name, {**asked, "hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest()})
        if name in config.keys:
            raise _conflict(f"The key '{name}' is part of the configuration; another name is needed.")
        shown = f"{secret[:6]}...{secret[-4:]}"
        try:
            made = await self._gateway.made_keys.add(entry, shown)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        if made is None:
            raise _conflict(f"There is a key '{name}' already; revoke it first, or choose another name.")
        self._log_change("key_made", made)
        answer = {**_runtime_key_json(made), "key": secret}
        if self._gateway.made_keys.store.is_volatile:
            answer["note"] = "journal is off: a restart forgets this key. Name a folder as journal, or a Redis as store, to keep it."
        return json_response(answer, 201)

    async def change(self, request: Request) -> Response:
        """PATCH /admin/keys/{name}: other limits, models, expiry; or `disabled`. What is not named stays."""
        _check_host(self._gateway, request)
        asked = await _read_body(request)
        made = self._find_runtime_key(request.path_params["name"])
        whole = {name: value for name, value in {**key_to_json(made.entry), **asked}.items() if value is not None}
        entry = _read_key(self._gateway, made.entry.name, whole, ends_later="expires" in asked)
        changed = msgspec.structs.replace(made, entry=entry)
        try:
            if not await self._gateway.made_keys.replace(changed):
                raise _key_not_found(entry.name)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        self._log_change("key_changed", changed)
        return json_response(_runtime_key_json(changed))

    async def revoke(self, request: Request) -> Response:
        """DELETE /admin/keys/{name}: refused everywhere within two seconds."""
        _check_host(self._gateway, request)
        name = request.path_params["name"]
        made = self._find_runtime_key(name)
        try:
            if not await self._gateway.made_keys.revoke(name):
                raise _key_not_found(name)
        except StoreUnavailableError as error:
            raise _store_unavailable(error) from None
        self._log_change("key_revoked", made)
        return json_response({"object": "key", "name": name, "revoked": True})

    def _log_change(self, what: str, key: RuntimeKey) -> None:
        """One line in the log for each change, with what may be shown of the key."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": at, "level": "info", "event": what, "key": key.entry.name, "shown": key.shown, "disabled": key.entry.disabled}
        self._gateway.log.write(msgspec.json.encode(line) + b"\n")

    def _find_runtime_key(self, name: str) -> RuntimeKey:
        made = self._gateway.made_keys.keys.get(name)
        if made is None and name in self._gateway.config.keys:
            raise _conflict(f"The key '{name}' is part of the configuration: change it there (disabled: true) and reload.")
        if made is None:
            raise _key_not_found(name)
        return made


def _runtime_key_json(key: RuntimeKey) -> dict[str, Any]:
    return {**_key_json(key.entry, "runtime"), "shown": key.shown, "created": int(key.created)}


def _key_json(key: KeyConfig, source: str) -> dict[str, Any]:
    return {"object": "key", "name": key.name, "source": source, "disabled": False, **key_to_json(key)}


async def _read_body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent, without what only we may say."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # what a page in a browser may send unasked is none
        raise BadRequest("Send JSON, with 'content-type: application/json'.", status=415, code="unsupported_media_type")
    source = await read_body(request.receive, MAX_BODY_BYTES)
    body = parse_body(source)
    for name, raw in body.items():
        if bytes(raw).startswith(b"{"):
            _reject_duplicates(name, bytes(raw))
    try:
        found: dict[str, Any] = msgspec.json.decode(source)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    for name in READ_ONLY_FIELDS:
        if name in found:
            raise BadRequest(f"'{name}' is chosen by the gateway.", param=name, code="unsupported_parameter")
    return found


def _reject_duplicates(name: str, source: bytes) -> None:
    """A limit that is written twice has no meaning, as in the YAML."""
    try:
        parse_body(source)
    except BadRequest as error:
        raise BadRequest(str(error), param=f"{name}.{error.param}" if error.param else name, code=error.code) from None


def _read_key(gateway: Gateway, name: str, entry: dict[str, Any], *, ends_later: bool = True) -> KeyConfig:
    try:
        return key_from_json(gateway.config, name, entry, check_expiry=ends_later)
    except ConfigError as error:
        problems = [(one.path.removeprefix(f"keys.{name}."), one.message) for one in error.problems]
        text = "; ".join(f"{path}: {message}" for path, message in problems)
        raise BadRequest(text, param=problems[0][0]) from None


def _check_host(gateway: Gateway, request: Request) -> None:
    """Without an admin key only this machine is let in: not a page in a browser that had its own name resolve to us."""
    if gateway.config.admin.key_hash is not None:
        return
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    if not Address(host.strip("[]"), 0).is_loopback:
        raise Forbidden("Without an admin key, keys are told and changed only under a loopback address.", code="forbidden_host")


def _key_not_found(name: str) -> NotFound:
    return NotFound(f"There is no key '{name[:80]}'.", code="key_not_found")


def _conflict(message: str) -> GatewayError:
    return GatewayError(message, status=409, code="key_exists", type="invalid_request_error")


def _store_unavailable(error: StoreUnavailableError) -> Unavailable:
    return Unavailable(f"Nothing was changed: the store is out of reach ({error}).", code="store_unavailable")
