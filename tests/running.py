"""A gateway in its own process, started from a configuration file and stopped by SIGTERM. Its output is checked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from tests.support.plain_http import WITHOUT_AUTHORITIES

Figure: TypeAlias = Callable[[str, float, str], None]
"""Type of the fixture `figure`, which takes name, value and unit."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0
UNCLEAN = ("Traceback (most recent call last)", "Task exception was never retrieved", "was never awaited", "Unclosed", "ResourceWarning")
_ADDRESS = re.compile(r"^(listening|admin) on (\S+)", re.MULTILINE)


class RunningGateway:
    """One gateway process and the two addresses it printed. `env` is added to an environment without credentials.

    `config` is None for a demo.
    """

    def __init__(self, config: Path | None, folder: Path, env: Mapping[str, str] | None = None, args: tuple[str, ...] = ()) -> None:
        self._stdout = folder / "gateway.stdout"
        self._stderr = folder / "gateway.stderr"
        file = [] if config is None else ["--config", str(config)]
        command = [sys.executable, "-m", "gateway", "serve", *file, "--port", "0", "--admin-port", "0", *args]
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=_bare_environment(env or {}), cwd=Path(__file__).parents[1]
            )
        addresses = self._addresses()
        self.url = addresses["listening"]
        """URL of the caller listener, without `/v1`."""
        self.admin_url = addresses["admin"]

    @property
    def base_url(self) -> str:
        """Return the base URL for an OpenAI client."""
        return self.url + "/v1"

    @property
    def port(self) -> int:
        """Return the port of the caller listener."""
        return int(self.url.rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    @property
    def stderr(self) -> str:
        """Return everything the process has written to stderr."""
        return self._stderr.read_text(errors="replace")

    @property
    def output(self) -> str:
        """Return everything the process has written, stdout first."""
        return self._stdout.read_text(errors="replace") + self.stderr

    def records(self) -> list[dict[str, Any]]:
        """Return the JSON log lines so far, one for each call and event."""
        lines = [line for line in self.output.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until /readyz returns 200, which includes that the local engine has loaded its model."""
        deadline = time.monotonic() + seconds
        last_answer = "no answer"
        while time.monotonic() < deadline:
            try:
                response = httpx.get(self.admin_url + "/readyz", verify=WITHOUT_AUTHORITIES, timeout=5, trust_env=False)
            except httpx.HTTPError as error:
                last_answer = repr(error)
            else:
                if response.status_code == 200:
                    return
                last_answer = response.text
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway exited with {self.process.returncode}:\n{self.output}")
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} s, last answer of /readyz: {last_answer}:\n{self.output}")

    def stop(self) -> None:
        """Stop the process by SIGTERM. Fail unless it exits with 0 and its output shows no unhandled error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._abort()
            raise AssertionError(f"{self.output}\nthe gateway did not stop within {STOP_SECONDS} s of SIGTERM (output above)") from None
        assert code == 0, f"{self.output}\nthe gateway exited with {code} (output above)"
        for sign in UNCLEAN:
            assert sign not in self.output, f"{sign!r} in the gateway's output:\n{self.output}"

    def _abort(self) -> None:
        """End the process and its workers. Each prints the stacks of its threads."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in [*map(int, children), self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        self.process.wait()

    def _addresses(self) -> dict[str, str]:
        """Wait until the process has printed its addresses and return them."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            addresses = dict(_ADDRESS.findall(self.stderr))
            if {"listening", "admin"} <= addresses.keys():
                return addresses
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway exited with {self.process.returncode}:\n{self.output}")
            time.sleep(0.02)
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"the gateway printed no addresses within {START_SECONDS} s:\n{self.output}")


def _bare_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a gateway: without the credentials, proxies and warning filters of this shell."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"} or name.startswith(("PIP_", "LOCKGATE_"))
    }
    return {**kept, "PYTHONWARNINGS": "always::ResourceWarning", "PYTHONFAULTHANDLER": "1", **extra}
