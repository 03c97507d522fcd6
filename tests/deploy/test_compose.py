"""docker-compose.yml: each service is hardened, limited and has a health check, and only intended ports are published."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy import first_start
from tests.deploy import tools
from tests.deploy.compose import seconds
from tests.support.each import each

FILE = tools.ROOT / "docker-compose.yml"
TEXT = FILE.read_text()
STACK: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
LASTING = [name for name in SERVICES if name != "init"]


def test_file_matches_the_compose_schema() -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_monitoring_is_a_profile_and_the_gateway_with_redis_starts_without_one() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert {name for name, listed in profiles.items() if listed is None} == {"init", "redis", "gateway"}
    assert {name for name, listed in profiles.items() if listed == ["full"]} == {"prometheus", "alertmanager", "grafana"}
    started = {"init", "redis", "gateway"}
    assert set().union(*(SERVICES[name].get("depends_on", {}) for name in started)) <= started


@each("name", SERVICES)
def test_service_is_hardened_and_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc"} == set()
    assert {"pids_limit", "mem_limit", "cpus"} <= service.keys()
    for mount in service.get("tmpfs", []):
        assert {"noexec", "nosuid", "nodev"} <= set(mount.partition(":")[2].split(","))
        assert "size=" in mount
    for volume in service.get("volumes", []):
        assert "docker.sock" not in volume
        assert volume.endswith(":ro") or re.match(r"[a-z]+-data:", volume) or name == "init", f"{name} may write {volume}"


@each("name", LASTING)
def test_long_running_service_restarts_has_a_health_check_and_a_stop_grace(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["ulimits"]["nofile"] >= 65536
    assert service["tmpfs"]
    assert seconds(service["stop_grace_period"]) >= 20
    assert service["depends_on"]["init"]["condition"] == "service_completed_successfully"


def test_images_have_fixed_tags() -> None:
    images = [re.sub(r"\$\{LOCKGATE_IMAGE:-(.*)\}", r"\1", service["image"]) for service in SERVICES.values()]
    assert [image for image in images if not re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+", image)] == []


def test_redis_has_no_published_port_and_shares_its_network_with_the_gateway_only() -> None:
    redis = SERVICES["redis"]
    assert "ports" not in redis
    assert redis["networks"] == ["store"]
    assert STACK["networks"]["store"]["internal"] is True
    assert [name for name, service in SERVICES.items() if "store" in service.get("networks", [])] == ["redis", "gateway"]


def test_redis_evicts_nothing_and_requires_a_password() -> None:
    command = SERVICES["redis"]["command"]
    options = {word: command[index + 1] for index, word in enumerate(command[:-1]) if word.startswith("--")}
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "everysec")
    assert options["--aclfile"].startswith("/secrets/")
    assert options["--protected-mode"] == "yes"


def test_only_the_callers_port_can_be_published_beyond_loopback() -> None:
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"${LOCKGATE_BIND:-127.0.0.1}:${LOCKGATE_PORT:-8080}:8080"}


def test_file_contains_no_secret() -> None:
    variables = [f"{name}={value}" for service in SERVICES.values() for name, value in service.get("environment", {}).items()]
    secret = [text for text in variables if re.search(r"(?i)passw|secret|token|_key", text.partition("=")[0])]
    names = [text.partition("=")[0] for text in secret]
    credentials = [f"{name}=${{{name}:-}}" for name in names if name.endswith("_API_KEY")]
    assert secret == [*credentials, "GF_SECURITY_ADMIN_PASSWORD__FILE=/secrets/grafana/admin-password"]
    assert re.findall(r"(?i)changeme|sk-1234|requirepass", TEXT) == []


def test_each_service_mounts_only_its_own_secrets() -> None:
    seen = {name: [v.split(":")[0] for v in service["volumes"] if "-secrets" in v] for name, service in SERVICES.items() if name != "init"}
    assert seen == {name: [f"{name}-secrets"] for name in LASTING}


def test_stop_grace_is_longer_than_grace_and_drain() -> None:
    config = yaml.safe_load((tools.DEPLOY / "gateway.yaml").read_text())
    assert seconds(SERVICES["gateway"]["stop_grace_period"]) > seconds(config["grace"]) + seconds(config["drain"]) + 5


def test_mounted_files_exist() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", []) if volume.startswith("./")]
    assert mounted
    assert [path for path in mounted if not (tools.ROOT / path).exists()] == []


def test_credentials_of_providers_reach_the_service_init_only_and_are_outside_version_control() -> None:
    given = {name: [each for each in service.get("environment", {}) if each.endswith("_API_KEY")] for name, service in SERVICES.items()}
    assert {name for name, variables in given.items() if variables} == {"init"}
    assert given["init"] == [f"{name.upper()}_API_KEY" for name in first_start.PROVIDERS]
    assert ".env" in (tools.ROOT / ".gitignore").read_text().splitlines()


def test_first_start_is_quiet_because_the_engine_keeps_its_output() -> None:
    assert "--quiet" in SERVICES["init"]["command"]
    assert "--new-key" not in SERVICES["init"]["command"]


def test_volumes_and_networks_are_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", []) if not volume.startswith("./")}
    assert used == set(STACK["volumes"])
    assert {network for service in SERVICES.values() for network in service.get("networks", [])} == set(STACK["networks"])
