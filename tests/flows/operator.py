"""Keys and their hashes, and an operator who manages keys through the admin listener."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from tests.flows.conftest import post_chat
from tests.flows.live import Live

ADMIN, FIRST = "lg-admin-0123456789abcdef", "lg-first-0123456789abcdef"


def digest(token: str) -> str:
    """Return the hash of a key as it is written in the configuration."""
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()


REST = f"""
  other: up/other
teams:
  search: {{ limits: {{ requests: 100/h }} }}
keys:
  first: {{ hash: "{digest(FIRST)}", models: [m], limits: {{ tokens: 250k/min }}, team: search }}
"""
KEYED = f'admin: {{ key_hash: "{digest(ADMIN)}" }}\n'


def bearer(token: str) -> dict[str, str]:
    """Return the header that sends a key."""
    return {"authorization": f"Bearer {token}"}


class Operator:
    """A client of /admin/keys with the admin key."""

    def __init__(self, client: httpx.AsyncClient, gateway: Live) -> None:
        self._client = client
        self._gateway = gateway

    async def ask(self, method: str, path: str = "", body: Any = None) -> httpx.Response:
        """Send one request to /admin/keys."""
        return await self._client.request(method, f"{self._gateway.admin_url}/admin/keys{path}", json=body, headers=bearer(ADMIN))

    async def make(self, name: str, **entry: Any) -> str:
        """Create a key and return its token."""
        answer = await self.ask("POST", "", {"name": name, **entry})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    async def call(self, token: str, model: str = "m", **more: Any) -> httpx.Response:
        """Send a chat call with a key."""
        return await post_chat(self._client, self._gateway, model, headers=bearer(token), **more)
