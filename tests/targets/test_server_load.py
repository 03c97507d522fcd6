"""The load that vLLM servers report: how it is read, what counts as missing, and for which providers it is read."""

from __future__ import annotations

import pytest

import providers
from benchmarks.ports import free_port
from gateway.config import load
from gateway.config.load_metrics import LoadMetricsConfig
from gateway.targets import server_load
from gateway.targets.backend import Backend
from gateway.targets.latency import Latency
from gateway.targets.probes import Probes
from gateway.targets.registry import TargetRegistry
from gateway.targets.server_load import (
    RETRY_MISSING_S,
    LoadMissingError,
    default_path,
    interval_s,
    measured_providers,
    read_load,
    record_load,
    sum_of_gauges,
)
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin, UpstreamError
from providers.base import Target
from tests.faults.behaviours import canned, status
from tests.faults.upstream_server import HANG, FaultUpstream, play
from tests.flows.live import eventually
from tests.support.each import each
from tests.support.vllm_metrics import serve_metrics, vllm_metrics

GAUGES = providers.get("vllm").load_gauges
EVERY_S = LoadMetricsConfig(every=0.5)


def backend(port: int, model: str = "m", latency: Latency | None = None) -> Backend:
    """Return a backend of a vLLM server at a local port."""
    target = Target(f"p/{model}", "p", providers.get("vllm"), model, f"http://127.0.0.1:{port}/v1", "sk-secret")
    return Backend((target,), Origin("http", "127.0.0.1", port), NativeTransport(), Deadlines(), latency=latency or Latency())


def test_the_load_is_the_sum_of_running_and_waiting_requests_of_all_engines() -> None:
    text = vllm_metrics([1, 4], [20, 300])
    assert b'vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 1.0\n' in text
    assert sum_of_gauges(text, GAUGES) == 325
    assert sum_of_gauges(vllm_metrics([0], [0]), GAUGES) == 0
    assert sum_of_gauges(vllm_metrics([2], [3], model='odd"} 9\n} name'), GAUGES) == 5


@each(
    ("text", "found"),
    [
        (b"a 1\nb 2", 3),
        (b"a 1\nb 2 1700000000000\n", 3),
        (b'a{x="} 7"}\t1\nb{}  2.0e0\n', 3),
        (b"a 1\nb NaN\nb 2\n", 3),
        (b"a 1\nb NaN\n", None),
        (b"a 1\nb -1\n", None),
        (b"a 1\nb +Inf\n", None),
        (b"a 1\nb x\n", None),
        (b"a 1\n", None),
        (b"a 1\nbb 2\nb_c 2\n# b 2\n b 2\n", None),
        (b"", None),
        (b"<html>a 1</html>", None),
    ],
)
def test_only_valid_series_of_the_gauges_count(text: bytes, found: int | None) -> None:
    assert sum_of_gauges(text, ("a", "b")) == found


@each(
    ("base_url", "path"),
    [
        ("http://h:8000/v1", "/metrics"),
        ("http://h:8000/v1/", "/metrics"),
        ("http://h:8000", "/metrics"),
        ("http://h/pool/v1", "/pool/metrics"),
        ("http://h/pool", "/pool/metrics"),
    ],
)
def test_the_metrics_are_beside_the_api(base_url: str, path: str) -> None:
    assert default_path(base_url) == path


async def test_the_load_is_requested_with_the_headers_of_a_probe(up: FaultUpstream) -> None:
    up.on(lambda request: request.path in ("/metrics", "/other"), serve_metrics(2, 5))
    assert await read_load(backend(up.port), None, 5.0) == 7
    assert await read_load(backend(up.port), "/other", 5.0) == 7
    assert [(request.method, request.path) for request in up.requests] == [("GET", "/metrics"), ("GET", "/other")]
    assert dict(up.requests[0].headers)["authorization"] == "Bearer sk-secret"


async def test_a_response_without_a_report_is_missing_or_a_failure(up: FaultUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for script in (status(404), status(401), status(307, headers={"location": "/x"}), canned(b"{}"), canned(b"")):
        up.once(script)
        with pytest.raises(LoadMissingError):
            await read_load(backend(up.port), None, 5.0)
    for script, timeout_s in ((status(503), 5.0), (play(HANG), 0.2), (play(b"junk"), 5.0)):
        up.once(script)
        with pytest.raises(UpstreamError):
            await read_load(backend(up.port), None, timeout_s)
    monkeypatch.setattr(server_load, "MAX_METRICS_BYTES", 1000)
    up.once(serve_metrics())
    with pytest.raises(UpstreamError) as caught:
        await read_load(backend(up.port), None, 5.0)
    assert caught.value.kind == "too_large"


async def test_the_requests_of_others_are_those_beyond_the_own_calls(up: FaultUpstream) -> None:
    backends = [backend(up.port, "m"), backend(up.port, "n")]
    backends[0].latency.in_flight, backends[1].latency.in_flight = 3, 4
    up.on("/metrics", serve_metrics(5, 10))
    assert await record_load(EVERY_S, 0.5, backends) == 0.5
    assert [each.latency.others for each in backends] == [8, 8]
    backends[0].latency.in_flight = 300  # calls that have not reached the server
    await record_load(EVERY_S, 0.5, backends)
    assert [each.latency.others for each in backends] == [0, 0]


async def test_a_report_is_used_until_it_is_stale(up: FaultUpstream) -> None:
    now = [100.0]
    one = backend(up.port, latency=Latency(lambda: now[0]))
    assert one.latency.others is None
    up.on("/metrics", serve_metrics(5, 10))
    await record_load(EVERY_S, 0.5, [one])
    failing = backend(free_port(), latency=one.latency)
    now[0] += 3.4  # three intervals and a timeout of 2 s
    assert await record_load(EVERY_S, 0.5, [failing]) == 0.5
    assert one.latency.others == 15
    now[0] += 0.2
    assert one.latency.others is None


async def test_a_server_without_a_report_is_asked_rarely(up: FaultUpstream) -> None:
    up.on("/metrics", status(404))
    one = backend(up.port)
    assert await record_load(EVERY_S, 0.5, [one]) == RETRY_MISSING_S
    assert await record_load(EVERY_S, 120.0, [one]) == 120.0
    assert one.latency.others is None


def test_many_servers_are_asked_less_often() -> None:
    assert interval_s(LoadMetricsConfig(), 1) == 1.0
    assert interval_s(LoadMetricsConfig(), 1000) == 10.0
    assert interval_s(LoadMetricsConfig(every=20.0), 1000) == 20.0


CONFIG = """
providers:
  a: { type: vllm, base_url: "http://127.0.0.1:%(port)d/v1"%(more)s }
  b: { type: vllm, base_url: "http://127.0.0.1:%(port)d/v1" }
  c: { type: openai-compatible, base_url: "http://127.0.0.1:%(port)d/v1" }
models:
  first: { targets: { second: 1, c/m: 1 }%(balance)s }
  second: [a/m, third]
  third: { targets: [a/n, second-name] }
  second-name: a/o
  other: b/m
"""


def configured(port: int = 9, more: str = "", balance: str = ", balance: prefix") -> load.Config:
    """Return a configuration in which one split reaches the providers `a` and `c`."""
    text = CONFIG % {"port": port, "more": more, "balance": balance}
    return load.parse(text.encode(), "g.yaml", environ={})


def test_only_servers_that_a_prefix_split_compares_are_asked() -> None:
    assert measured_providers(configured()) == {"a"}
    assert measured_providers(configured(balance=", balance: session")) == frozenset()
    assert measured_providers(configured(more=", load_metrics: false")) == frozenset()
    assert measured_providers(configured(more=", load_metrics: { path: /m, every: 5s }")) == {"a"}


async def test_one_task_reads_the_load_of_a_server_with_several_models(up: FaultUpstream) -> None:
    up.on("/metrics", serve_metrics(1, 2))
    config = configured(up.port, ", load_metrics: { every: 50ms }")
    backends = {model: backend(up.port, model) for model in "mno"}
    probes = Probes(TargetRegistry())
    probes.configure(config, lambda provider, model: backends[model], lambda: [("a", "m"), ("a", "n"), ("a", "o"), ("b", "m"), ("c", "m")])
    assert len(probes._tasks) == 1
    await eventually(lambda: len(up.requests) >= 3)
    assert [each.latency.others for each in backends.values()] == [3, 3, 3]
    await probes.stop()
