"""The OpenAPI 3.1 document of one listener, or of both."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import msgspec

from gateway.openapi import admin, answers, callers, errors, headers

Listener = Literal["callers", "admin", "all"]
CALLERS, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
"""Addresses of a gateway with the default configuration."""
_OPTIONAL: list[dict[str, list[str]]] = [{"key": []}, {"apiKey": []}, {}]


def document(listener: Listener = "all") -> dict[str, Any]:
    """Return the document. The addresses of the listeners are variables, because each deployment has its own addresses."""
    paths: dict[str, Any] = {}
    if listener != "admin":
        found = callers.operations()
        for path, item in found.operations.items():
            servers = [_server("callers", CALLERS, prefix) for prefix in found.prefixes[path]]
            paths[path] = {"servers": servers, **item}
    if listener != "callers":
        for path, item in admin.paths().items():
            secured = {
                name: {"security": [{"adminKey": []}, {}], **each} if name in _METHODS else each
                for name, each in item.items()
            }
            servers = [_server("admin", ADMIN, ""), *paths.get(path, {}).get("servers", ())]
            paths[path] = {"servers": servers, **secured}
    schemas = {**answers.SCHEMAS, **errors.SCHEMAS}
    schemas |= callers.schemas() if listener != "admin" else {}
    schemas |= admin.schemas() if listener != "callers" else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lockgate",
            "version": _installed_version(),
            "summary": "One OpenAI-compatible URL in front of every model provider",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [_server("callers", CALLERS, "/v1") if listener != "admin" else _server("admin", ADMIN, "")],
        "security": _OPTIONAL,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers.components(),
            "responses": errors.components(),
            "parameters": headers.parameters(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A virtual key, or the token of an OpenID provider. Not needed if the gateway requires no key.",
                },
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": "The same key, for Anthropic's clients.",
                },
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin key, if `admin.key_hash` is set.",
                },
            },
        },
    }


def _installed_version() -> str:
    try:
        return version("lockgate")
    except PackageNotFoundError:
        return "0"


_METHODS = frozenset({"get", "post", "patch", "delete"})


def _server(name: str, address: str, prefix: str) -> dict[str, Any]:
    variable = {
        "default": address,
        "description": f"The address of the {'admin' if name == 'admin' else 'callers’'} listener.",
    }
    variables = {name: variable}
    if "{name}" in prefix:
        variables["name"] = {"default": "MODEL", "description": "The name of a model, which Azure calls a deployment."}
    return {"url": f"{{{name}}}{prefix}", "variables": variables}


@cache
def document_json(listener: Listener = "all") -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document(listener))
