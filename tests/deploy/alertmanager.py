"""A real Alertmanager with deploy/alertmanager.yml and a webhook."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import httpx

from benchmarks.ports import free_port
from deploy.first_start import with_webhook
from tests.deploy import tools

CONFIG = tools.DEPLOY / "alertmanager.yml"


def configured(folder: Path, webhook: str) -> Path:
    """Write the configuration as the service init does, and return its path."""
    path = folder / "alertmanager.yml"
    path.write_text(with_webhook(CONFIG.read_text(), webhook))
    return path


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, folder: Path, webhook: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "alertmanager.log"
        command = [tools.debian("prometheus-alertmanager"), f"--config.file={configured(folder, webhook)}", "--cluster.listen-address="]
        command += [f"--storage.path={folder / 'alertmanager'}", f"--web.listen-address={self.address}"]
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/-/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Stop the server."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.log.read_text()
