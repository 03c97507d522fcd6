"""An active probe: a request that succeeds with any status below 500, and whose failure counts at every target of the provider."""

from __future__ import annotations

import pytest

import providers
from benchmarks.ports import free_port
from gateway.config import load
from gateway.targets.backend import Backend
from gateway.targets.probes import Probes, send_probe
from gateway.targets.registry import TargetRegistry
from gateway.upstream.native_transport import NativeTransport
from gateway.upstream.transport import Deadlines, Origin
from providers.base import Target
from tests.faults.upstream_server import FaultUpstream
from tests.flows.live import eventually


def backend(port: int, model: str = "m") -> Backend:
    """Return a backend at a local port."""
    target = Target(f"p/{model}", "p", providers.get("vllm"), model, f"http://127.0.0.1:{port}/v1", "sk-secret")
    return Backend((target,), Origin("http", "127.0.0.1", port), NativeTransport(), Deadlines())


async def test_a_probe_asks_its_path_below_the_base_url_with_the_providers_headers(up: FaultUpstream) -> None:
    assert await send_probe(backend(up.port), "/models", 5.0) is None
    (request,) = up.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert dict(request.headers)["authorization"] == "Bearer sk-secret"


async def test_a_refused_connection_is_a_failed_probe() -> None:
    failure = await send_probe(backend(free_port()), "/models", 5.0)
    assert failure is not None
    assert failure.message.startswith("the probe failed after 0.")


async def test_failed_probes_start_a_cooldown_at_every_target_of_the_provider() -> None:
    config = load.parse(
        b"providers: {p: {type: vllm, base_url: 'http://x/v1', probe: {path: /models, every: 1s}, cooldown: {failures: 1}}}\n"
        b"models: {a: [p/m, p/n]}\n",
        "g.yaml",
        environ={},
    )
    registry = TargetRegistry()
    registry.configure(config.providers)
    probes, port = Probes(registry), free_port()
    probes.configure(config, lambda provider, model: backend(port, model), lambda: [("p", "m"), ("p", "n")])
    await eventually(lambda: [health.state for health in registry.all()] == ["cooling", "cooling"])
    await probes.stop()


@pytest.mark.parametrize("probe", ["", ", probe: {path: /models, every: 1s}"])
async def test_only_providers_with_a_probe_setting_are_probed(probe: str) -> None:
    text = f"providers: {{p: {{type: vllm, base_url: 'http://x/v1'{probe}}}}}\nmodels: {{a: p/m}}\n"
    config = load.parse(text.encode(), "g.yaml", environ={})
    probes = Probes(TargetRegistry())
    probes.configure(config, lambda provider, model: backend(1, model), lambda: [("p", "m")])
    assert len(probes._tasks) == bool(probe)
    await probes.stop()
