"""/admin/keys: lists virtual keys, and creates, changes, rotates and revokes them at run time.

A secret is returned only when it is created.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.admin.answers import json_response
from gateway.admin.entries import (
    changes,
    check_entry,
    conflict,
    log_change,
    not_found,
    read_fields,
    store_unavailable,
    take_name,
    with_usage,
)
from gateway.admin.key_json import Change, key_from_json, key_to_json
from gateway.admin.merge_patch import merge
from gateway.config.formats import read_lifetime
from gateway.config.key import KeyConfig
from gateway.errors import BadRequest, GatewayError
from gateway.keys.runtime_keys import rotated
from gateway.keys.store import RuntimeKey
from gateway.runtime.gateway import Gateway
from gateway.store.errors import StoreUnavailableError

KEY_PREFIX = "lg-"
DEFAULT_GRACE_S = 24 * 3600.0
MAX_GRACE_S = 90 * 24 * 3600.0
ROTATE = "/rotate"


class KeyAdmin:
    """The endpoints under /admin/keys of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def list(self, request: Request) -> Response:
        """GET /admin/keys: list all keys, those of the configuration and those created at run time."""
        entries = [(_key_json(key, "yaml"), key) for key in self._gateway.config.keys.values()]
        entries += [(_runtime_key_json(key), key.entry) for key in self._gateway.runtime_keys.keys.values()]
        return json_response({"object": "list", "data": await with_usage(self._gateway, [*entries])})

    async def show(self, request: Request) -> Response:
        """GET /admin/keys/{name}: return one key."""
        name = request.path_params["name"]
        runtime_key = self._gateway.runtime_keys.keys.get(name)
        if runtime_key is not None:
            return await self._answer(runtime_key)
        key = self._gateway.config.keys.get(name)
        if key is None:
            raise not_found("key", name, code="key_not_found")
        return json_response((await with_usage(self._gateway, [(_key_json(key, "yaml"), key)]))[0])

    async def create(self, request: Request) -> Response:
        """POST /admin/keys: create a key. Only this response contains the secret."""
        config = self._gateway.config
        fields = {name: value for name, value in (await read_fields(request)).items() if value is not None}
        name = take_name(fields)
        if not config.requires_keys:
            raise GatewayError(
                "Authentication is off, so a new key would protect nothing. Set 'auth: keys' and admin.key_hash in the "
                "configuration, or add a first key there: lockgate key create prints one.",
                status=409, code="keys_not_checked", type="invalid_request_error",
            )  # fmt: skip
        secret, hash, shown = _new_secret()
        entry = self._read(name, {**fields, "hash": hash})
        if name in config.keys:
            raise conflict(f"The key '{name}' is defined in the configuration. Choose another name.", code="key_exists")
        try:
            runtime_key = await self._gateway.runtime_keys.add(entry, shown)
        except StoreUnavailableError as error:
            raise store_unavailable("key", error) from None
        if runtime_key is None:
            raise conflict(f"The key '{name}' already exists. Revoke it first, or choose another name.", code="key_exists")
        self._log_change("key_made", runtime_key)
        answer = {"key": secret}
        if self._gateway.runtime_keys.store.is_volatile:
            answer["note"] = (
                "'journal' is off, so this key is lost on restart. To keep it, set 'journal' to a folder or 'store' to a Redis URL."
            )
        return await self._answer(runtime_key, answer, 201)

    async def change(self, request: Request) -> Response:
        """PATCH /admin/keys/{name}: merge the request into the key (RFC 7396); null removes a field.

        The response lists what was removed, changed and added.
        """
        fields = await read_fields(request)

        def merged(key: RuntimeKey) -> RuntimeKey:
            entry = self._read(key.entry.name, merge(key_to_json(key.entry), fields), Change(key.entry, fields))
            return msgspec.structs.replace(key, entry=entry)

        before, after = await self._change(request.path_params["name"], merged, "key_changed")
        shown = ({"disabled": False, **key_to_json(key.entry)} for key in (before, after))
        return await self._answer(after, changes(*shown))

    async def rotate(self, request: Request) -> Response:
        """POST /admin/keys/{name}/rotate: give a key a new secret. The old secret stays valid for the time `grace`."""
        if not request.scope.get("raw_path", b"/rotate").endswith(ROTATE.encode()):  # the name ends in %2Frotate
            request.path_params["name"] += ROTATE
            return await self.change(request)
        has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        grace_s = _read_grace(await read_fields(request) if has_body else {})
        secret, hash, shown = _new_secret()
        name = request.path_params["name"]
        _, after = await self._change(name, lambda key: rotated(key, hash, shown, grace_s), "key_rotated")
        return await self._answer(after, {"key": secret})

    async def revoke(self, request: Request) -> Response:
        """DELETE /admin/keys/{name}: revoke a key. Every process rejects it within two seconds."""
        name = request.path_params["name"]
        runtime_key = self._find_runtime_key(name)
        try:
            if not await self._gateway.runtime_keys.revoke(name):
                raise not_found("key", name, code="key_not_found")
        except StoreUnavailableError as error:
            raise store_unavailable("key", error) from None
        self._log_change("key_revoked", runtime_key)
        return json_response({"object": "key", "name": name, "revoked": True})

    async def _change(self, name: str, changed: Callable[[RuntimeKey], RuntimeKey], event: str) -> tuple[RuntimeKey, RuntimeKey]:
        """Change a key. Return the key before and after the change."""
        self._refuse_configured(name)
        try:
            both = await self._gateway.runtime_keys.change(name, changed)
        except StoreUnavailableError as error:
            raise store_unavailable("key", error) from None
        if both is None:
            raise not_found("key", name, code="key_not_found")
        self._log_change(event, both[1])
        return both

    async def _answer(self, key: RuntimeKey, told: dict[str, Any] | None = None, status: int = 200) -> Response:
        shown = (await with_usage(self._gateway, [(_runtime_key_json(key), key.entry)]))[0]
        return json_response({**shown, **(told or {})}, status)

    def _log_change(self, event: str, key: RuntimeKey) -> None:
        """Log a change with the masked key."""
        log_change(self._gateway, event, key=key.entry.name, shown=key.shown, disabled=key.entry.disabled)

    def _find_runtime_key(self, name: str) -> RuntimeKey:
        self._refuse_configured(name)
        runtime_key = self._gateway.runtime_keys.keys.get(name)
        if runtime_key is None:
            raise not_found("key", name, code="key_not_found")
        return runtime_key

    def _refuse_configured(self, name: str) -> None:
        if name in self._gateway.config.keys and name not in self._gateway.runtime_keys.keys:
            text = f"The key '{name}' is defined in the configuration. Change it there and reload; 'disabled: true' disables it."
            raise conflict(text, code="key_exists")

    def _read(self, name: str, entry: dict[str, Any], change: Change[KeyConfig] | None = None) -> KeyConfig:
        config, teams = self._gateway.config, self._gateway.runtime_teams.by_name
        return check_entry("keys", name, lambda: key_from_json(config, name, entry, teams, change=change))


def _runtime_key_json(key: RuntimeKey) -> dict[str, Any]:
    shown = {**_key_json(key.entry, "runtime"), "shown": key.shown, "created": int(key.created)}
    now = datetime.now(UTC).timestamp()
    previous = [{"until": _moment(each.until)} for each in key.previous if each.until > now]
    return {**shown, "previous": previous} if previous else shown


def _key_json(key: KeyConfig, source: str) -> dict[str, Any]:
    return {"object": "key", "name": key.name, "source": source, "disabled": False, **key_to_json(key)}


def _new_secret() -> tuple[str, str, str]:
    """Return a new secret, its hash, and the beginning and end of the secret."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    return secret, "sha256:" + hashlib.sha256(secret.encode()).hexdigest(), f"{secret[:6]}...{secret[-4:]}"


def _read_grace(fields: dict[str, Any]) -> float:
    for name in fields:
        if name != "grace":
            raise BadRequest(f"Unknown field '{name[:40]}'. Only 'grace' can be set.", param=name[:40])
    text = fields.get("grace")
    if text is None:
        return DEFAULT_GRACE_S
    try:
        grace_s = (0.0 if text in ("0", "0s") else read_lifetime(text)) if isinstance(text, str) else None
    except ValueError:
        grace_s = None
    if grace_s is None or grace_s > MAX_GRACE_S:
        raise BadRequest("'grace' must be a duration such as \"24h\" or \"7d\", at most \"90d\", or \"0s\".", param="grace")
    return grace_s


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(int(time_s), UTC).isoformat().replace("+00:00", "Z")
