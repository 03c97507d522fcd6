"""deploy/systemd/lockgate.service: hardened, stopped gracefully, and consistent with the gateway's times and paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import load as config
from tests.deploy import tools

FILE = tools.DEPLOY / "systemd" / "lockgate.service"
TEXT = FILE.read_text()
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", TEXT, re.MULTILINE))


def test_service_runs_without_privileges_on_a_read_only_system() -> None:
    expected = {"DynamicUser": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict"}
    assert {name: SETTINGS.get(name) for name in expected} == expected


def test_stop_is_longer_than_grace_and_drain() -> None:
    default = config.load(config.BUILT_IN, environ={})
    assert int(SETTINGS["TimeoutStopSec"]) > default.grace + default.drain + 5
    assert SETTINGS["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_state_and_models_are_in_folders_of_the_service() -> None:
    variables = dict(word.split("=") for word in SETTINGS["Environment"].split())
    assert variables["LOCKGATE_STATE"] == f"/var/lib/{SETTINGS['StateDirectory']}"
    assert variables["LOCKGATE_CACHE"] == f"/var/cache/{SETTINGS['CacheDirectory']}"
    assert SETTINGS["EnvironmentFile"].startswith("-/etc/lockgate/")


def test_documents_that_the_unit_names_are_installed_by_the_steps() -> None:
    steps = (tools.DEPLOY.parent / "docs" / "installation.md").read_text().partition("## systemd")[2]
    assert re.search(r"install -D -m 644 -t /opt/lockgate/docs docs/\*\.md\b", steps)
    for address in SETTINGS["Documentation"].split():
        name = address.removeprefix("file:///opt/lockgate/")
        assert name.startswith("docs/")
        assert (tools.DEPLOY.parent / name).is_file()


@pytest.mark.prove
def test_systemd_accepts_the_unit_and_rates_it_as_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "lockgate.service"
    unit.write_text(TEXT.replace("/opt/lockgate/bin/lockgate", "/bin/true"))
    done = tools.run(tools.debian("systemd-analyze"), "verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")
    rated = tools.run(tools.debian("systemd-analyze"), "security", "--offline=true", "--threshold=20", unit)
    assert rated.returncode == 0, rated.stdout
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in tools.run(tools.debian("systemd-analyze"), "verify", "--man=no", unit).stderr
