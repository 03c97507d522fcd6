"""A real Prometheus with deploy/prometheus.yml and deploy/rules, adapted to local addresses and paths."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.ports import free_port
from tests.deploy import tools


class PrometheusServer:
    """One Prometheus that scrapes one gateway's admin listener."""

    def __init__(self, folder: Path, admin_url: str, *, key: str = "none", alertmanager: str = "127.0.0.1:1") -> None:
        (folder / "admin-key").write_text(key)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        text = (tools.DEPLOY / "prometheus.yml").read_text()
        for container, here in (
            ("/secrets/prometheus/admin-key", str(folder / "admin-key")),
            ("gateway:8081", admin_url.removeprefix("http://")),
            ("alertmanager:9093", alertmanager),
            ("127.0.0.1:9090", f"127.0.0.1:{port}"),
            ("rules/*.yml", f"{tools.DEPLOY}/rules/*.yml"),
        ):
            assert container in text
            text = text.replace(container, here)
        self.config = folder / "prometheus.yml"
        self.config.write_text(text)
        self.log = folder / "prometheus.log"
        command = [tools.debian("prometheus"), f"--config.file={self.config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out, cwd=folder)
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str, **params: str) -> Any:
        """Return the data in a response of the API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=30, trust_env=False).json()
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """Return the current values of a query, without NaN."""
        values = [float(series["value"][1]) for series in self.get("query", query=query)["result"]]
        return [value for value in values if not math.isnan(value)]

    def stop(self) -> None:
        """Stop the server."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.log.read_text()
