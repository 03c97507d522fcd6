"""The load that servers report in their Prometheus metrics: the requests of all clients that a server runs or keeps waiting.

A process counts only its own calls. The load of a server that others use as well is the number of these calls plus the requests of
others. The latter is the difference between the reported load and the process's own calls at the time of the report.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from msgspec import structs

import providers
from gateway.config.load_metrics import LoadMetricsConfig
from gateway.config.provider import ProviderConfig
from gateway.config.route import refs
from gateway.config.types import Config
from gateway.targets.backend import Backend
from gateway.upstream.transport import UpstreamError
from providers.base import WireRequest

MAX_METRICS_BYTES = 4 << 20
MAX_REQUESTS_PER_S = 100
"""Maximum number of requests for metrics per second, to all servers."""
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 2.0, 10.0
"""Bounds of the timeout of a request, which otherwise is the interval between requests."""
INTERVALS_UNTIL_STALE = 3
"""Number of intervals, in addition to the timeout of a request, after which a report is no longer used."""
RETRY_MISSING_S = 60.0
"""Time between two requests to a server that does not report its load."""
MAX_LOAD = 1e6
"""Gauges above this value are ignored, as are negative values and NaN."""


_AFTER_NAME = re.compile(rb"(?:\{.*\})?[ \t]+(\S+)")


class LoadMissingError(Exception):
    """A server that responds but does not report its load."""


def measured_providers(config: Config) -> frozenset[str]:
    """Return the providers whose load is read: it is enabled, their type reports it, and `balance: prefix` compares their targets."""
    found: set[str] = set()
    visited: set[str] = set()
    waiting = [name for name, model in config.models.items() if model.balance == "prefix"]
    while waiting:
        name = waiting.pop()
        if name in visited or name not in config.models:
            continue
        visited.add(name)
        for ref in refs(config.models[name].targets):
            if ref.provider is None:
                waiting.append(ref.model)
            elif (provider := config.providers.get(ref.provider)) is not None and _reports_load(provider):
                found.add(ref.provider)
    return frozenset(found)


def _reports_load(provider: ProviderConfig) -> bool:
    return provider.load_metrics.enabled and bool(providers.get(provider.type).load_gauges)


def interval_s(settings: LoadMetricsConfig, servers: int) -> float:
    """Return the time between two requests to one of `servers` servers."""
    return max(settings.every, servers / MAX_REQUESTS_PER_S)


async def read_load_repeatedly(settings: LoadMetricsConfig, every_s: float, backends: Sequence[Backend]) -> None:
    """Read the load of one server, to which all `backends` belong, and record it."""
    await asyncio.sleep(every_s * random.random())  # so that a change of the replicas does not cause all requests at the same time
    while True:
        pause_s = await record_load(settings, every_s, backends)
        await asyncio.sleep(pause_s * (0.9 + 0.2 * random.random()))  # so that several processes do not send at the same moments


async def record_load(settings: LoadMetricsConfig, every_s: float, backends: Sequence[Backend]) -> float:
    """Read the load of one server and record it. Return the time until the next request.

    After a failure, the last report stays in use until it is stale.
    """
    timeout_s = min(max(MIN_TIMEOUT_S, every_s), MAX_TIMEOUT_S)
    try:
        load = await read_load(backends[0], settings.path, timeout_s)
    except UpstreamError:
        return every_s
    except LoadMissingError:
        return max(every_s, RETRY_MISSING_S)
    others = max(0, load - sum(backend.latency.in_flight for backend in backends))
    for backend in backends:
        backend.latency.report_others(others, INTERVALS_UNTIL_STALE * every_s + timeout_s)
    return every_s


async def read_load(backend: Backend, path: str | None, timeout_s: float) -> int:
    """Return the number of requests at a server.

    Raise UpstreamError if the request for it fails, and LoadMissingError if the server does not report it.
    """
    target = backend.target
    headers = [*target.kind.probe_headers(target), ("accept", "text/plain")]
    request = WireRequest(path or default_path(target.base_url), headers, b"", "GET")
    deadlines = structs.replace(backend.deadlines, total=min(timeout_s, backend.deadlines.total))
    response = await backend.transport.send(backend.origin, request, deadlines)
    try:
        if response.status >= 500:
            raise UpstreamError("server_error", f"the metrics were answered with HTTP {response.status}")
        if response.status != 200:
            raise LoadMissingError
        body = await response.body(MAX_METRICS_BYTES)
    finally:
        response.close()
    load = sum_of_gauges(body, target.kind.load_gauges)
    if load is None:
        raise LoadMissingError
    return load


def default_path(base_url: str) -> str:
    """Return the path of the metrics of a server whose API has this base URL."""
    return urlsplit(base_url).path.rstrip("/").removesuffix("/v1") + "/metrics"


def sum_of_gauges(text: bytes, names: Iterable[str]) -> int | None:
    """Return the sum of all series of these gauges in Prometheus' text format, or None unless each gauge has a series.

    A vLLM server with several engines has one series for each of them.
    """
    total = 0.0
    for name in names:
        values = list(_values_of(text, name.encode()))
        if not values:
            return None
        total += sum(values)
    return round(total)


def _values_of(text: bytes, name: bytes) -> Iterator[float]:
    at = text.find(name)  # a regular expression over the whole text would block the event loop several times as long
    while at >= 0:
        end = text.find(b"\n", at)
        end = len(text) if end < 0 else end
        series = _AFTER_NAME.match(text, at + len(name), end) if at == 0 or text[at - 1 : at] == b"\n" else None
        value = _read_number(series[1]) if series is not None else None
        if value is not None:
            yield value
        at = text.find(name, end)


def _read_number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= MAX_LOAD else None
