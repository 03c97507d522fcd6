"""Start of a serving process and of a worker."""

from __future__ import annotations

import io
import resource
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.config.load import Overrides, parse
from gateway.config.source import ConfigText
from gateway.runtime.gateway import Gateway
from gateway.server.serve import run, stop_on_unusable_model
from gateway.server.worker import main
from gateway.server.worker_control import LoadRequest, WorkerOrder
from gateway.telemetry.call_log import CallLog
from gateway.upstream.file_limit import MIN_FILES

YAML = b'providers: {up: {type: vllm, base_url: "http://127.0.0.1:1/v1"}}\nmodels: {m: up/a}\n'


def test_an_invalid_configuration_ends_the_process_with_2(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("models: 1")
    assert run(str(path), Overrides()) == 2
    assert str(path) in capfd.readouterr().err


def test_a_worker_with_an_invalid_configuration_ends_with_2(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    load = LoadRequest(ConfigText("g.yaml", b"models: 1", {}, Overrides()), 1, {})
    order = WorkerOrder(load, listener=-1, control="", cells="", number=0, supervisor=0, human=True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(msgspec.json.encode(order))))
    assert main() == 2
    assert "g.yaml" in capfd.readouterr().err


async def test_a_gateway_without_a_local_model_is_not_stopped() -> None:
    stops: list[None] = []
    gateway = Gateway(parse(YAML, "g.yaml", environ={}), CallLog(2, human=True), lambda line: None)
    assert not await stop_on_unusable_model(gateway, lambda: stops.append(None))
    assert stops == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_low_limit_on_open_files_ends_the_process_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (MIN_FILES - 1, MIN_FILES - 1))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    path = tmp_path / "gateway.yaml"
    path.write_bytes(YAML)
    assert run(str(path), Overrides(), workers=workers) == 2
    error = capfd.readouterr().err
    assert f"the limit on open files is {MIN_FILES - 1}" in error
    assert f"`ulimit -n {MIN_FILES}`" in error
