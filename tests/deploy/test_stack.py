"""Start docker-compose.yml as processes, without Grafana: the local model answers with a new key."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.ports import free_port
from tests.deploy import tools
from tests.deploy.compose import Stack
from tests.faults.behaviours import canned
from tests.faults.upstream_server import FaultUpstream
from tests.running import UNCLEAN, Figure
from tests.support.upstream_thread import UpstreamThread

pytestmark = [pytest.mark.prove, pytest.mark.timeout(400)]
QUESTION = {"model": "local", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
PUBLISHED = ("LOCKGATE_PORT", "LOCKGATE_ADMIN_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT")


class Running:
    """The running stack, its key and its addresses."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in PUBLISHED}
        self.hook = UpstreamThread(FaultUpstream())
        self.hook.server.on(lambda request: True, canned(b"ok"))
        variables = {name: str(port) for name, port in self.ports.items()} | {
            "ALERT_WEBHOOK": f"{self.hook.server.origin}/alerts",
            "OPENAI_API_KEY": "sk-of-the-dot-env-file",
        }
        self.stack = Stack(folder, tools.ROOT / "docker-compose.yml", without=("grafana",), variables=variables)
        began = time.monotonic()
        try:
            self.stack.up()
        except BaseException:
            self.stack.down()
            self.hook.stop()
            raise
        self.seconds = time.monotonic() - began
        self.url = f"http://127.0.0.1:{self.ports['LOCKGATE_PORT']}"
        self.admin = f"http://127.0.0.1:{self.ports['LOCKGATE_ADMIN_PORT']}"
        self.prometheus = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}"
        self.alertmanager = f"http://127.0.0.1:{self.ports['ALERTMANAGER_PORT']}"
        self.first_output = self.stack.services["init"].output
        self.key = self.new_key()

    def new_key(self) -> str:
        """Return a new virtual key that the gateway accepts: `docker compose run --rm init --new-key`."""
        init, gateway = self.stack.services["init"], self.stack.services["gateway"]
        before = init.output
        init.start("--new-key")
        init.wait_for("service_completed_successfully")
        (key,) = set(re.findall(r"\blg-[\w-]{43}\b", init.output.removeprefix(before)))
        deadline = time.monotonic() + 60
        while ask(self, key) != 200:
            assert time.monotonic() < deadline, gateway.output
            time.sleep(0.2)
        return str(key)

    def query(self, text: str) -> list[Any]:
        """Return the result of a query to Prometheus."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": text}, timeout=10, trust_env=False).json()
        found: list[Any] = answer["data"]["result"]
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("stack"))
    yield found
    codes = found.stack.down()
    found.hook.stop()
    assert set(codes.values()) == {0}, {name: (code, found.stack.services[name].output) for name, code in codes.items()}
    output = found.stack.services["gateway"].output
    assert [sign for sign in UNCLEAN if sign in output] == [], output


def test_local_model_answers_with_the_printed_key(running: Running, figure: Figure) -> None:
    figure("the stack, from nothing to healthy", running.seconds, "s")
    headers = {"authorization": f"Bearer {running.key}"}
    began = time.monotonic()
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=QUESTION, headers=headers, timeout=120, trust_env=False)
    figure("first answer", time.monotonic() - began, "s")
    assert answer.status_code == 200, answer.text
    assert "Paris" in answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-ratelimit-limit-requests"] == "600"


def test_one_line_in_the_environment_file_adds_a_provider(running: Running) -> None:
    admin_key = (running.stack.volume("prometheus-secrets") / "admin-key").read_text()
    headers = {"authorization": f"Bearer {admin_key}"}
    active = httpx.get(f"{running.admin}/admin/config", headers=headers, timeout=30, trust_env=False)
    assert '"openai/*"' in active.text
    assert "sk-of-the-dot-env-file" not in active.text


def test_calls_without_the_key_are_rejected(running: Running) -> None:
    for headers in ({}, {"authorization": "Bearer lg-" + "x" * 43}):
        assert (
            httpx.post(f"{running.url}/v1/chat/completions", json=QUESTION, headers=headers, timeout=30, trust_env=False).status_code == 401
        )
    assert httpx.get(f"{running.admin}/metrics", timeout=30, trust_env=False).status_code == 401
    assert httpx.get(f"{running.admin}/healthz", timeout=30, trust_env=False).status_code == 200


def test_prometheus_scrapes_and_has_loaded_every_rule(running: Running) -> None:
    deadline = time.monotonic() + 60
    while not running.query('sum(lockgate_requests_total{model="local"}) > 0'):
        assert time.monotonic() < deadline, running.query("up")
        time.sleep(0.5)
    assert [series["value"][1] for series in running.query('up{job="lockgate"}')] == ["1"]
    groups = httpx.get(f"{running.prometheus}/api/v1/rules", timeout=10, trust_env=False).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_alertmanager_gets_alerts_from_prometheus_and_sends_them_to_the_webhook(running: Running) -> None:
    deadline = time.monotonic() + 60
    while True:
        answer = httpx.get(f"{running.prometheus}/api/v1/alertmanagers", timeout=10, trust_env=False).json()
        if answer["data"]["activeAlertmanagers"]:
            break
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    (active,) = answer["data"]["activeAlertmanagers"]
    assert active["url"].startswith(running.alertmanager)
    page = {"labels": {"alertname": "LockgateTargetDown", "severity": "page", "target": "a/m"}, "annotations": {"summary": "down"}}
    posted = httpx.post(f"{running.alertmanager}/api/v2/alerts", json=[page], timeout=10, trust_env=False)
    assert posted.status_code == 200, posted.text
    while not (requests := list(running.hook.server.requests)):
        assert time.monotonic() < deadline, running.stack.services["alertmanager"].output
        time.sleep(0.2)
    body = json.loads(requests[0].body)
    assert (body["receiver"], body["alerts"][0]["labels"]["alertname"]) == ("operators", "LockgateTargetDown")


def test_no_secret_is_in_the_log_of_a_container(running: Running) -> None:
    """A virtual key appears only in the output of `run --rm`, which the engine does not keep."""
    secrets = [path.read_text() for name in ("gateway", "redis", "prometheus", "grafana") for path in _secrets(running, name)]
    assert len(secrets) > 5
    logs = [running.first_output, *(service.output for name, service in running.stack.services.items() if name != "init")]
    assert all(logs)
    assert [text for text in (*secrets, running.key) for log in logs if text in log] == []
    assert re.findall(r"\blg-[\w-]{43}\b", "".join(logs)) == []


def _secrets(running: Running, name: str) -> list[Path]:
    """Return the files with a secret of a service."""
    folder = running.stack.volume(f"{name}-secrets")
    return [path for path in folder.iterdir() if path.suffix not in (".yaml", ".acl")]


def test_keys_are_in_no_file_but_their_own(running: Running) -> None:
    admin_key = (running.stack.volume("prometheus-secrets") / "admin-key").read_text()
    assert len(admin_key) >= 43
    files = [path for path in running.stack.folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    assert [path.name for path in files if running.key.encode() in path.read_bytes()] == ["init.log"]
    assert [path.name for path in files if admin_key.encode() in path.read_bytes()] == ["admin-key"]


def test_limits_are_kept_in_the_stacks_redis(running: Running) -> None:
    password = (running.stack.volume("gateway-secrets") / "store-password").read_text()
    port = str(running.stack.ports["redis"][6379])
    command = [tools.debian("redis-cli"), "-p", port, "--user", "gateway", "--no-auth-warning", "-a", password]
    headers = {"authorization": f"Bearer {running.key}"}
    assert httpx.post(f"{running.url}/v1/chat/completions", json=QUESTION, headers=headers, timeout=120, trust_env=False).status_code == 200
    admin_key = (running.stack.volume("prometheus-secrets") / "admin-key").read_text()
    admin = f"http://127.0.0.1:{running.stack.ports['gateway'][8081]}/metrics"
    metrics = httpx.get(admin, headers={"authorization": f"Bearer {admin_key}"}, trust_env=False).text
    assert 'lockgate_limit_decisions_total{decision="admitted",kind="requests",mode="shared",owner="key"}' in metrics
    kept = [path for path in running.stack.volume("redis-data").rglob("*.aof") if b"lockgate:" in path.read_bytes()]
    assert kept, "what was counted is not in the append-only file"
    outages = [line for line in running.stack.services["gateway"].output.splitlines() if "is unavailable" in line]
    assert [line for line in outages if "no answer within" not in line] == [], "a busy machine may be slow, but it refuses nothing"
    for refused in (["CONFIG", "GET", "*"], ["FLUSHALL"], ["SET", "other", "1"], ["SCAN", "0"]):
        assert "NOPERM" in tools.run(*command, *refused).stdout
    assert "NOAUTH" in tools.run(tools.debian("redis-cli"), "-p", port, "GET", "x").stdout


def test_journal_is_in_the_gateways_volume_only(running: Running) -> None:
    journals = {path.parent.parent.name for path in running.stack.folder.rglob("*.journal")}
    assert journals == {"gateway-data"}


def test_lost_key_is_replaced_without_a_restart_or_a_signal(running: Running) -> None:
    lost, running.key = running.key, running.new_key()
    deadline = time.monotonic() + 60
    while ask(running, lost) != 401:  # the workers may load the new file at slightly different times
        assert time.monotonic() < deadline, running.stack.services["gateway"].output
        time.sleep(0.2)


def ask(running: Running, key: str) -> int:
    """Return the status of a call with a key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{running.url}/v1/models", headers=headers, timeout=30, trust_env=False).status_code
