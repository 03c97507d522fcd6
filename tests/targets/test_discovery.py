"""Reading the lists of models: from a real server, which changes its list, fails and recovers."""

from __future__ import annotations

import json

import pytest

from benchmarks.ports import free_port
from gateway.config import load
from gateway.config.types import Config
from gateway.targets.discovery import MAX_LIST_BYTES, MAX_MODELS, Discovery, ListError, read_list
from tests.faults.upstream_server import FaultUpstream, Script, canned, status
from tests.flows.live import eventually
from tests.targets.test_probes import backend


def listing(*names: str) -> Script:
    """Return the script of a server with these models."""
    return canned(json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())


def config(port: int, settings: str = "{every: 20ms}") -> Config:
    """Return a configuration whose provider `p` has these settings of `discover`."""
    text = f"providers: {{p: {{type: vllm, base_url: 'http://127.0.0.1:{port}/v1', discover: {settings}}}}}\nmodels: {{m: p/m}}\n"
    return load.parse(text.encode(), "g.yaml", environ={})


async def test_the_list_is_read_below_the_base_url_with_the_providers_headers(up: FaultUpstream) -> None:
    up.on("/v1/models", listing("a", "b"))
    assert await read_list(backend(up.port)) == ["a", "b"]
    (request,) = up.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert dict(request.headers)["authorization"] == "Bearer sk-secret"


BAD = {
    "HTTP 401": status(401),
    "HTTP 302": status(302, headers={"location": "http://elsewhere/"}),
    "not a list of models": canned(b"<html>"),
    "bytes": canned(b" " * (MAX_LIST_BYTES + 1)),
}


@pytest.mark.parametrize("reason", BAD)
async def test_another_response_is_an_error_that_names_its_reason(up: FaultUpstream, reason: str) -> None:
    up.on("/v1/models", BAD[reason])
    with pytest.raises(ListError) as failed:
        await read_list(backend(up.port))
    assert reason in str(failed.value)
    assert "sk-secret" not in str(failed.value)


async def test_a_list_follows_its_server_and_stays_while_the_server_fails(up: FaultUpstream) -> None:
    reports: list[str] = []
    changes: list[object] = []
    discovery = Discovery(reports.append, lambda: changes.append(discovery.lists["p"]))
    up.on("/v1/models", listing("a", "b"))
    discovery.configure(config(up.port), lambda provider, model: backend(up.port, model))
    await discovery.wait_for_first()
    assert discovery.lists == {"p": ("a", "b")}
    up.on("/v1/models", listing("b", "c"))
    await eventually(lambda: discovery.lists["p"] == ("b", "c"))
    up.on("/v1/models", status(503))
    await eventually(lambda: discovery.states() == {("p",): 0.0})
    assert discovery.lists == {"p": ("b", "c")}
    up.on("/v1/models", listing("c", "b"))
    await eventually(lambda: discovery.states() == {("p",): 1.0})
    assert discovery.counts() == {("p",): 2.0}
    await discovery.stop()
    assert changes == [("a", "b"), ("b", "c")]
    assert reports == [
        "provider p lists 2 models",
        "provider p lists 2 models (1 new, 1 removed)",
        "provider p: the list of models cannot be read: GET /v1/models was answered with HTTP 503; its last list of 2 models stays in use",
        "provider p: the list of models can be read again",
    ]


async def test_an_unavailable_server_does_not_delay_the_start_and_has_no_list() -> None:
    port, reports = free_port(), list[str]()
    discovery = Discovery(reports.append, lambda: None)
    discovery.configure(config(port), lambda provider, model: backend(port, model))
    await discovery.wait_for_first()
    assert discovery.lists == {"p": None}
    assert discovery.states() == {("p",): 0.0}
    await discovery.stop()
    assert len(reports) == 1
    assert "there is no earlier list" in reports[0]


async def test_a_defect_of_a_plugin_is_reported_and_the_list_is_requested_again(
    up: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, reports = [KeyError("secret"), None], list[str]()

    def headers(target: object) -> list[tuple[str, str]]:
        if (error := failures.pop(0) if failures else None) is not None:
            raise error
        return []

    one = backend(up.port)
    monkeypatch.setattr(one.target.kind, "probe_headers", headers, raising=False)
    up.on("/v1/models", listing("a"))
    discovery = Discovery(reports.append, lambda: None)
    discovery.configure(config(up.port), lambda provider, model: one)
    await eventually(lambda: discovery.lists == {"p": ("a",)})
    await discovery.stop()
    assert reports == [
        "provider p: the list of models cannot be read: KeyError; there is no earlier list", "provider p lists 1 model",
    ]  # fmt: skip


async def test_a_reload_keeps_the_list_of_the_same_server_and_applies_the_new_filter(up: FaultUpstream) -> None:
    discovery = Discovery(lambda line: None, lambda: None)
    up.on("/v1/models", listing("a-1", "b-1"))
    discovery.configure(config(up.port, "{only: [a-1]}"), lambda provider, model: backend(up.port, model))
    await discovery.wait_for_first()
    up.on("/v1/models", status(503))
    discovery.configure(config(up.port, "{only: ['b-*']}"), lambda provider, model: backend(up.port, model))
    assert discovery.lists == {"p": ("b-1",)}
    discovery.configure(config(up.port), lambda provider, model: backend(free_port(), model))
    assert discovery.lists == {"p": None}
    await discovery.stop()


async def test_the_number_of_models_is_bounded(up: FaultUpstream) -> None:
    reports: list[str] = []
    discovery = Discovery(reports.append, lambda: None)
    up.on("/v1/models", listing(*(f"m{number}" for number in range(MAX_MODELS + 5))))
    discovery.configure(config(up.port), lambda provider, model: backend(up.port, model))
    await eventually(lambda: discovery.counts() == {("p",): float(MAX_MODELS)})
    await discovery.stop()
    assert reports[0] == f"provider p lists {MAX_MODELS} models; only the first {MAX_MODELS} are used"
