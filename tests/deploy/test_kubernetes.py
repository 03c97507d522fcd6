"""The Kubernetes manifests: restricted profile, network policies, start and end of a pod."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from gateway.config import load as config
from tests.deploy import tools
from tests.deploy.compose import seconds
from tests.support.each import each

FOLDER = tools.DEPLOY / "kubernetes"
FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OBJECTS: list[dict[str, Any]] = [item for path in FILES for item in yaml.safe_load_all(path.read_text())]


def the(kind: str, name: str = "lockgate") -> dict[str, Any]:
    """Return one object by kind and name."""
    (result,) = [item for item in OBJECTS if item["kind"] == kind and item["metadata"]["name"] == name]
    return result


POD: dict[str, Any] = the("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_kustomization_lists_every_file() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert sorted(listed["resources"]) == [path.name for path in FILES]
    assert [image["name"] for image in listed["images"]] == [CONTAINER["image"].partition(":")[0]]


def test_every_object_is_in_the_restricted_namespace() -> None:
    labels = the("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {item["metadata"].get("namespace") for item in OBJECTS if item["kind"] != "Namespace"} == {"lockgate"}


def test_pod_meets_the_restricted_profile_and_has_a_read_only_root() -> None:
    security = POD["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    own = CONTAINER["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert [name for name in ("hostNetwork", "hostPID", "hostIPC") if POD.get(name)] == []
    assert [volume for volume in POD["volumes"] if "hostPath" in volume] == []


def test_pod_has_no_service_account_token() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert the("ServiceAccount")["automountServiceAccountToken"] is False


def test_secrets_are_owner_only_files_and_never_variables() -> None:
    assert "env" not in CONTAINER
    assert "envFrom" not in CONTAINER
    secrets = [volume["secret"] for volume in POD["volumes"] if "secret" in volume]
    assert [item["defaultMode"] for item in secrets] == [0o400, 0o400]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert [name for name, mount in mounts.items() if not mount.get("readOnly")] == ["state", "tmp"]
    assert [item["kind"] for item in OBJECTS if item["kind"] == "Secret"] == []


def test_probes_use_readiness_and_liveness_and_startup_waits_for_the_model() -> None:
    paths = {probe: CONTAINER[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    assert {CONTAINER[f"{probe}Probe"]["httpGet"]["port"] for probe in paths} == {"admin"}


def test_termination_grace_is_longer_than_pause_grace_and_drain() -> None:
    settings = yaml.safe_load(the("ConfigMap")["data"]["gateway.yaml"])
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before >= 5
    assert POD["terminationGracePeriodSeconds"] > before + seconds(settings["grace"]) + seconds(settings["drain"]) + 5


def test_memory_limit_equals_the_request() -> None:
    resources = CONTAINER["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    assert resources["requests"]["cpu"]


def test_selectors_match_the_pods() -> None:
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        the("Deployment")["spec"]["selector"]["matchLabels"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        the("Service", "lockgate-admin")["spec"]["selector"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert [item for item in selectors if not item.items() <= labels.items()] == []
    scraped = the("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= the("Service", "lockgate-admin")["metadata"]["labels"].items()
    assert not scraped.items() <= the("Service")["metadata"]["labels"].items()


def test_prometheus_uses_the_admin_key_from_a_secret() -> None:
    (endpoint,) = the("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "lockgate-prometheus", "key": "admin-key"}}
    assert endpoint["port"] in {port["name"] for port in the("Service", "lockgate-admin")["spec"]["ports"]}


def test_autoscaler_uses_streams_in_flight() -> None:
    metrics = the("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [item["pods"]["metric"]["name"] for item in metrics if item["type"] == "Pods"] == ["lockgate_streams_in_flight"]
    from gateway.metrics.declarations import GAUGES

    assert "lockgate_streams_in_flight" in GAUGES
    assert the("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_applying_the_manifests_again_keeps_the_number_that_the_autoscaler_chose() -> None:
    assert the("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "lockgate"
    assert "replicas" not in the("Deployment")["spec"]


def test_network_policies_deny_everything_else() -> None:
    policy = the("NetworkPolicy", "default-deny")["spec"]
    assert (policy["podSelector"], policy["policyTypes"]) == ({}, ["Ingress", "Egress"])
    ports = {port["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"] for rule in _ingress() for port in rule["ports"]}
    assert ports == {
        8080: {"kubernetes.io/metadata.name": "ingress-nginx"},
        8081: {"kubernetes.io/metadata.name": "monitoring"},
    }
    assert {port["port"] for rule in _egress() for port in rule["ports"]} == {53, 443, 6379, 8000}


@each(
    "address", ["169.254.169.254", "10.0.0.1", "172.17.0.1", "192.168.1.1", "100.100.100.200", "fd00:ec2::254", "fe80::1"]
)
def test_egress_excludes_metadata_service_and_private_addresses(address: str) -> None:
    blocks = [peer["ipBlock"] for rule in _egress() for peer in rule["to"] if "ipBlock" in peer]
    assert blocks
    for block in blocks:
        inside = ip_address(address) in ip_network(block["cidr"])
        assert not inside or any(ip_address(address) in ip_network(item) for item in block["except"]), block
    assert any(ip_address("1.1.1.1") in ip_network(block["cidr"]) for block in blocks)


def _ingress() -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = the("NetworkPolicy")["spec"]["ingress"]
    return result


def _egress() -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = the("NetworkPolicy")["spec"]["egress"]
    return result


def test_configuration_is_valid_with_the_secrets(tmp_path: Any) -> None:
    digest = "sha256:" + hashlib.sha256(b"a long random key").hexdigest()
    for name, text in (("admin-key.sha256", digest), ("key.sha256", digest), ("store-password", "a long random password")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o400)
    (mount,) = [mount for mount in CONTAINER["volumeMounts"] if mount["name"] == "secrets"]
    text = the("ConfigMap")["data"]["gateway.yaml"].replace(f"file:{mount['mountPath']}/", f"file:{tmp_path}/")
    result = config.parse(text.encode(), "gateway.yaml", environ={})
    assert result.admin.key_hash == digest
    assert [item.reveal() for item in result.store_password] == ["a long random password"]
    assert {result.listen.port, result.admin.listen.port} == {port["containerPort"] for port in CONTAINER["ports"]}


@pytest.mark.prove
def test_kubernetes_schemas_accept_every_object_except_the_service_monitor() -> None:
    """No package has the ServiceMonitor's schema, which belongs to the Prometheus operator; its fields are checked above."""
    program = tools.locked("kubernetes-validate")
    done = tools.run(program, "--strict", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert len([line for line in lines if " passed for resource " in line]) == len(OBJECTS) - 1
    assert [line for line in lines if not line.startswith("INFO ")] == [line for line in lines if "kind ServiceMonitor" in line]


@pytest.mark.prove
def test_unknown_field_is_detected(tmp_path: Any) -> None:
    broken = tmp_path / "deployment.yaml"
    broken.write_text((FOLDER / "deployment.yaml").read_text().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))
    assert tools.run(tools.locked("kubernetes-validate"), "--strict", broken).returncode != 0
