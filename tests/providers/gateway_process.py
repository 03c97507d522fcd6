"""A running gateway in front of the recording upstream, with one provider and one model for each configuration under test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import yaml

import providers
from tests.providers.cases import BASES, TYPES
from tests.providers.server import Upstream
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES

CREDENTIAL = "KEY"


class Way(NamedTuple):
    """A configuration of a provider: its type, a model, and its settings as JSON text."""

    kind: str
    model: str
    settings: str = "{}"


def way_of(provider: str, model: str, settings: dict[str, Any] | None = None) -> Way:
    """Return the configuration for a vector's provider, model and settings."""
    return Way(TYPES.get(provider, provider), model, json.dumps(settings or {}, sort_keys=True))


def base_of(way: Way) -> str:
    """Return the provider's default address, with the vectors' placeholder for Azure."""
    base = BASES.get(way.kind) or providers.get(way.kind).default_base_url or "http://compatible.test/v1"
    return base.removesuffix("/v1") if "classic" in way.settings else base


class Gateway:
    """A running gateway and its upstream. Each `Way` has a model of its own."""

    def __init__(self, process: RunningGateway, upstream: Upstream, ways: list[Way]) -> None:
        self.base_url = process.base_url
        self.upstream = upstream
        self._names = {way: f"m{index}" for index, way in enumerate(ways)}
        self._client = httpx.Client(base_url=process.base_url, timeout=30, verify=WITHOUT_AUTHORITIES, trust_env=False)

    def name_of(self, way: Way) -> str:
        """Return the name of the model of a configuration."""
        return self._names[way]

    def ask(self, way: Way, request: dict[str, Any], *, strict: bool = False, receipt: bool = True) -> httpx.Response:
        """Send a chat call, by default with the receipt in the body, and return the response."""
        headers = {"x-gateway-receipt": "body"} if receipt else {}
        if strict:
            headers["x-gateway-strict"] = "true"
        self.upstream.taken()
        return self._client.post("/chat/completions", json={**request, "model": self._names[way]}, headers=headers)

    def upstream_url(self, way: Way, path: str) -> str:
        """Return the address that a request to `path` would have without the recording upstream."""
        prefix = f"/{self._names[way]}"
        origin = urlsplit(base_of(way))
        return f"{origin.scheme}://{origin.netloc}{path.removeprefix(prefix)}"

    def close(self) -> None:
        self._client.close()


@contextmanager
def running(ways: list[Way], upstream: Upstream, folder: Path) -> Iterator[Gateway]:
    """Run a gateway for these configurations."""
    config = {
        "providers": {
            f"p{index}": {
                "type": way.kind,
                "api_key": "${UPSTREAM_KEY}",
                "base_url": f"{upstream.url}/m{index}{urlsplit(base_of(way)).path.rstrip('/')}",
                **json.loads(way.settings),
            }
            for index, way in enumerate(ways)
        },
        "models": {f"m{index}": f"p{index}/{way.model}" for index, way in enumerate(ways)},
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    process = RunningGateway(path, folder, {"UPSTREAM_KEY": CREDENTIAL})
    gateway = Gateway(process, upstream, ways)
    try:
        yield gateway
    finally:
        gateway.close()
        process.stop()


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the JSON chunks of a stream, except the receipt."""
    events = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return [chunk for chunk in chunks if "gateway" not in chunk]


def receipt_of(response: httpx.Response) -> dict[str, Any]:
    """Return the `gateway` object of a JSON answer, or of the last chunk of a stream."""
    if "event-stream" in response.headers["content-type"]:
        events = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: {")]
        receipts = [result["gateway"] for event in events if "gateway" in (result := json.loads(event))]
        assert receipts, response.text
        return dict(receipts[-1])
    return dict(response.json()["gateway"])
