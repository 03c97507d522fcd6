"""The Helm chart: rendered with the real Helm over a matrix of values, it equals the manifests by default, and its objects are valid."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import load as config
from tests.deploy import tools
from tests.deploy.compose import seconds
from tests.deploy.test_kubernetes import OBJECTS as MANIFESTS

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
CHART = tools.DEPLOY / "helm"
Objects = dict[tuple[str, str], dict[str, Any]]
EVERYTHING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"folder": "Lockgate"}},
    "ingress": {
        "enabled": True, "className": "nginx", "hosts": ["a.example.com", "b.example.com"], "annotations": {"a/b": "c"},
        "tls": [{"hosts": ["a.example.com"], "secretName": "tls"}],
    },
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}], "hostnames": ["a.example.com"]},
    "autoscaling": {"streamsPerPod": 500},
}  # fmt: skip


def helm(*words: str | Path, values: Any = None) -> Any:
    """Run Helm with values on standard input and return the completed process."""
    given = ["--values", "-"] if values is not None else []
    return tools.run(tools.locked("helm"), *words, *given, stdin=json.dumps(values))


def by_name(text: str) -> Objects:
    """Return the objects of a rendered chart by kind and name. Two objects of one name are an error."""
    items = [item for item in yaml.safe_load_all(text) if item is not None]
    result = {(item["kind"], item["metadata"]["name"]): item for item in items}
    assert len(result) == len(items)
    return result


def rendered(values: Any = None, chart: Path = CHART) -> Objects:
    """Render the chart as release `lockgate` in the namespace `lockgate`, and return its objects."""
    done = helm("template", "lockgate", chart, "--namespace", "lockgate", values={} if values is None else values)
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


@cache
def defaults() -> Objects:
    """Return the objects with the default values."""
    return rendered()


def refused(values: Any) -> str:
    """Return the error of values that Helm refuses."""
    done = helm("template", "lockgate", CHART, values=values)
    assert done.returncode != 0
    return str(done.stderr)


def without_labels(item: Any) -> Any:
    """Return an object without the labels and selectors, which name the release."""
    if isinstance(item, dict):
        names = ("labels", "matchLabels", "selector")
        return {name: without_labels(value) for name, value in item.items() if name not in names}
    return [without_labels(value) for value in item] if isinstance(item, list) else item


def test_linter_accepts_the_chart() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_default_pod_is_the_pod_of_the_manifests() -> None:
    (manifest,) = [item for item in MANIFESTS if item["kind"] == "Deployment"]
    pod = without_labels(defaults()["Deployment", "lockgate"]["spec"]["template"]["spec"])
    (container,) = pod["containers"]
    assert container.pop("imagePullPolicy") == "IfNotPresent"
    assert pod == without_labels(manifest["spec"]["template"]["spec"])


def test_default_configuration_is_that_of_the_manifests_and_valid(tmp_path: Path) -> None:
    (manifest,) = [item for item in MANIFESTS if item["kind"] == "ConfigMap"]
    text = defaults()["ConfigMap", "lockgate"]["data"]["gateway.yaml"]
    assert yaml.safe_load(text) == yaml.safe_load(manifest["data"]["gateway.yaml"])
    digest = "sha256:" + hashlib.sha256(b"a long random key").hexdigest()
    for name, content in (("admin-key.sha256", digest), ("key.sha256", digest), ("store-password", "a long random password")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o400)
    result = config.parse(text.replace("/run/secrets/gateway/", f"{tmp_path}/").encode(), "gateway.yaml", environ={})
    assert result.keys["first"].hash == digest


def test_configuration_is_merged_and_a_whole_file_is_used_as_it_is() -> None:
    merged = {"config": {"keys": {"first": None}, "max_body": 33554432, "models": {"smart": ["openai/gpt-4o", "local"]}}}
    text = yaml.safe_load(rendered(merged)["ConfigMap", "lockgate"]["data"]["gateway.yaml"])
    assert (text["keys"], text["max_body"]) == ({}, 33554432)
    assert text["models"] == {"local": "local/smollm2-135m-instruct", "*": "local", "smart": ["openai/gpt-4o", "local"]}
    file = "# a comment\nmodels: { a: local/x } # {{ not a template }}\n"
    assert rendered({"configFile": file})["ConfigMap", "lockgate"]["data"]["gateway.yaml"].rstrip() == file.rstrip()
    objects = rendered({"existingConfigMap": "mine"})
    assert ("ConfigMap", "lockgate") not in objects
    assert objects["Deployment", "lockgate"]["spec"]["template"]["spec"]["volumes"][0]["configMap"] == {"name": "mine"}


def test_replicas_are_fixed_only_without_the_autoscaler() -> None:
    assert "replicas" not in defaults()["Deployment", "lockgate"]["spec"]
    assert ("HorizontalPodAutoscaler", "lockgate") in defaults()
    fixed = rendered({"autoscaling": {"enabled": False}, "replicas": 3})
    assert fixed["Deployment", "lockgate"]["spec"]["replicas"] == 3
    assert ("HorizontalPodAutoscaler", "lockgate") not in fixed
    assert "autoscaling needs a metric" in refused({"autoscaling": {"cpuUtilization": None}})
    assert "more than autoscaling.maxReplicas" in refused({"autoscaling": {"minReplicas": 5, "maxReplicas": 2}})


def test_termination_grace_is_longer_than_pause_grace_and_drain() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    settings = values["config"]
    total = values["preStopSeconds"] + seconds(settings["grace"]) + seconds(settings["drain"])
    assert values["terminationGracePeriodSeconds"] > total + 5
    assert "take 310 seconds together" in refused({"config": {"drain": "5m"}})
    assert "take 70.5 seconds together" in refused({"configFile": "grace: 500ms\ndrain: 1m5s\n"})
    longer = rendered({"config": {"drain": "5m"}, "terminationGracePeriodSeconds": 330})
    assert longer["Deployment", "lockgate"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 330


@pytest.mark.parametrize("values", [
    {"config": {"listen": "0.0.0.0:9000", "admin": {"listen": "[::]:9001"}}},
    {"configFile": "listen: 0.0.0.0:9000\nadmin: { listen: 0.0.0.0:9001 }\n"},
])  # fmt: skip
def test_ports_are_those_of_the_configuration(values: dict[str, Any]) -> None:
    objects = rendered(values)
    (container,) = objects["Deployment", "lockgate"]["spec"]["template"]["spec"]["containers"]
    assert [(each["name"], each["containerPort"]) for each in container["ports"]] == [("callers", 9000), ("admin", 9001)]
    admitted = [rule["ports"][0]["port"] for rule in objects["NetworkPolicy", "lockgate"]["spec"]["ingress"]]
    assert admitted == [9000, 9001]
    targets = [port["targetPort"] for name in ("lockgate", "lockgate-admin") for port in objects["Service", name]["spec"]["ports"]]
    assert targets == ["callers", "admin"]


def test_listener_that_nothing_can_reach_is_refused() -> None:
    for address in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        assert "listen on 0.0.0.0" in refused({"config": {"listen": address}})
        assert "listen on 0.0.0.0" in refused({"config": {"admin": {"listen": address}}})


def test_all_pods_of_the_cluster_may_call_and_only_prometheus_reads_the_admin_listener() -> None:
    spec = defaults()["NetworkPolicy", "lockgate"]["spec"]
    peers = {rule["ports"][0]["port"]: rule["from"] for rule in spec["ingress"]}
    assert peers[8080] == [{"namespaceSelector": {}}]
    (manifest,) = [item for item in MANIFESTS if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "lockgate"]
    assert [peers[8081]] == [rule["from"] for rule in manifest["spec"]["ingress"] if rule["ports"][0]["port"] == 8081]
    assert spec["egress"] == manifest["spec"]["egress"]
    closed = {"callers": [], "prometheus": [], "dns": [], "redis": None, "models": None, "providers": None}
    policy = rendered({"networkPolicy": closed})["NetworkPolicy", "lockgate"]["spec"]
    assert (policy["policyTypes"], policy["ingress"] or [], policy["egress"] or []) == (["Ingress", "Egress"], [], [])
    assert ("NetworkPolicy", "lockgate") not in rendered({"networkPolicy": {"enabled": False}})


def test_selectors_match_the_pods_of_their_release_only() -> None:
    objects = rendered(EVERYTHING)
    labels = objects["Deployment", "lockgate"]["spec"]["template"]["metadata"]["labels"]
    selectors = [objects["Deployment", "lockgate"]["spec"]["selector"]["matchLabels"]]
    selectors += [objects["Service", name]["spec"]["selector"] for name in ("lockgate", "lockgate-admin")]
    selectors.append(objects["PodDisruptionBudget", "lockgate"]["spec"]["selector"]["matchLabels"])
    selectors.append(objects["NetworkPolicy", "lockgate"]["spec"]["podSelector"]["matchLabels"])
    assert all(one.items() <= labels.items() for one in selectors)
    assert {one["app.kubernetes.io/instance"] for one in selectors} == {"lockgate"}
    scraped = objects["ServiceMonitor", "lockgate"]["spec"]["selector"]["matchLabels"]
    assert scraped.items() <= objects["Service", "lockgate-admin"]["metadata"]["labels"].items()
    assert not scraped.items() <= objects["Service", "lockgate"]["metadata"]["labels"].items()


def test_service_monitor_and_alerts_are_those_of_the_manifests(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING)
    monitor = objects["ServiceMonitor", "lockgate"]
    (manifest,) = [item for item in MANIFESTS if item["kind"] == "ServiceMonitor"]
    assert monitor["spec"]["endpoints"] == manifest["spec"]["endpoints"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    groups = objects["PrometheusRule", "lockgate"]["spec"]["groups"]
    files = sorted((tools.DEPLOY / "rules").glob("*.yml"))
    assert groups == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    done = tools.run(tools.debian("promtool"), "check", "rules", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stderr


def test_alerts_select_the_job_of_the_service_monitor_under_any_name() -> None:
    objects = rendered({**EVERYTHING, "nameOverride": "gw"})
    label = objects["ServiceMonitor", "lockgate-gw"]["spec"]["jobLabel"]
    job = objects["Service", "lockgate-gw-admin"]["metadata"]["labels"][label]
    rules = json.dumps(objects["PrometheusRule", "lockgate-gw"]["spec"])
    assert set(re.findall(r'job=\\"(\w+)', rules)) == {job}


def test_each_dashboard_is_a_config_map_for_the_sidecar() -> None:
    items = rendered(EVERYTHING).values()
    maps = [item for item in items if "grafana_dashboard" in item["metadata"]["labels"]]
    assert {item["kind"] for item in maps} == {"ConfigMap"}
    shown = {name: json.loads(text) for item in maps for name, text in item["data"].items()}
    assert shown == {path.name: json.loads(path.read_text()) for path in (tools.DEPLOY / "grafana" / "dashboards").glob("*.json")}


def test_ingress_and_route_lead_to_the_callers_port() -> None:
    objects = rendered({**EVERYTHING, "service": {"port": 8000}})
    service = objects["Service", "lockgate"]
    assert service["spec"]["ports"] == [{"name": "callers", "port": 8000, "targetPort": "callers"}]
    rules = objects["Ingress", "lockgate"]["spec"]["rules"]
    assert [rule["host"] for rule in rules] == ["a.example.com", "b.example.com"]
    assert rules[0]["http"]["paths"][0]["backend"] == {"service": {"name": "lockgate", "port": {"name": "callers"}}}
    (rule,) = objects["HTTPRoute", "lockgate"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "lockgate", "port": 8000}]
    assert rule["timeouts"] == {"request": "0s"}
    assert "at least one host" in refused({"ingress": {"enabled": True}})
    assert "at least one gateway" in refused({"httpRoute": {"enabled": True}})


def test_names_follow_the_release_and_images_may_have_a_digest() -> None:
    done = helm("template", "blue", CHART, values={"image": {"repository": "r.example.com/x", "digest": f"sha256:{'0' * 64}"}})
    objects = by_name(done.stdout)
    assert ("Deployment", "blue-lockgate") in objects
    (container,) = objects["Deployment", "blue-lockgate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"r.example.com/x@sha256:{'0' * 64}"
    assert max(len(name) for _, name in rendered({**EVERYTHING, "fullnameOverride": "x" * 60})) <= 63


@pytest.mark.parametrize(("release", "values"), [("my.release", {}), ("x", {"fullnameOverride": "a.b"}), ("x", {"nameOverride": "a.b"})])
def test_names_of_services_have_no_dots(release: str, values: dict[str, Any]) -> None:
    objects = by_name(helm("template", release, CHART, values=values).stdout)
    names = [name for kind, name in objects if kind == "Service"]
    assert len(names) == 2
    assert all(re.fullmatch("[a-z][-a-z0-9]*[a-z0-9]", name) for name in names)


def test_release_that_cannot_name_a_service_is_refused() -> None:
    assert "set fullnameOverride" in helm("template", "1st", CHART, values={}).stderr
    assert helm("template", "1st", CHART, values={"fullnameOverride": "first"}).returncode == 0


MISTAKES = [
    {"replcas": 3}, {"image": {"digest": "latest"}}, {"service": {"port": "80"}}, {"autoscaling": {"minReplicas": 0}},
    {"podAnnotations": {"a": 1}}, {"networkPolicy": {"redis": {"ports": [0]}}},
    {"env": [{"name": "A", "value": 1}]}, {"env": [{"value": "a"}]}, {"podLabels": {"app.kubernetes.io/name": "a"}},
    {"networkPolicy": {"redis": {"ports": []}}}, {"httpRoute": {"requestTimeout": "10"}}, {"workers": 0},
]  # fmt: skip


@pytest.mark.parametrize("values", MISTAKES, ids=json.dumps)
def test_mistake_in_the_values_is_refused_with_its_path(values: dict[str, Any]) -> None:
    (name,) = values
    assert name in refused(values)


def test_schema_has_every_value_and_nothing_else() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}
    for name, part in schema["properties"].items():
        if part.get("additionalProperties") is False and name != "resources":
            assert values[name].keys() == part["properties"].keys(), name


SWITCHES = ("autoscaling", "podDisruptionBudget", "networkPolicy", "ingress", "httpRoute", "serviceMonitor", "prometheusRule", "dashboards")


def matrix() -> list[dict[str, Any]]:
    """Return values in which each pair of switches has each combination of on and off, and values that use every other key."""
    choices = random.Random(2)
    states = [[choices.random() < 0.5 for _ in SWITCHES] for _ in range(16)] + [[True] * len(SWITCHES), [False] * len(SWITCHES)]
    for one, other in itertools.combinations(range(len(SWITCHES)), 2):
        assert len({(state[one], state[other]) for state in states}) == 4, "choose another seed"
    rows: list[dict[str, Any]] = [
        {name: {**EVERYTHING.get(name, {}), "enabled": on} for name, on in zip(SWITCHES, state, strict=True)} for state in states
    ]
    peer = {"podSelector": {"matchLabels": {"app": "x"}}}
    rows.append({
        **EVERYTHING, "nameOverride": "gate", "fullnameOverride": "llm", "imagePullSecrets": [{"name": "registry"}],
        "env": [{"name": "A", "value": "b"}], "envFrom": [{"secretRef": {"name": "s"}}], "extraArgs": ["--grace", "1s"],
        "extraVolumes": [{"name": "v", "emptyDir": {}}], "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"e": "f"}, "priorityClassName": "high",
        "tolerations": [{"key": "gpu", "operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "serviceAccount": {"name": "own", "annotations": {"g": "h"}}, "service": {"type": "LoadBalancer", "annotations": {"i": "j"}},
        "networkPolicy": {"extraIngress": [{"from": [peer]}], "extraEgress": [{"to": [peer]}]},
        "podDisruptionBudget": {"maxUnavailable": "10%"},
    })  # fmt: skip
    return rows


def test_every_combination_of_options_has_valid_objects(tmp_path: Path) -> None:
    """Uses Kubernetes' own schemas. No package has the schemas of operators; the tests above check the objects that belong to operators."""
    foreign = {"ServiceMonitor", "PrometheusRule", "HTTPRoute"}
    rows = matrix()
    native = {}
    for values in rows:
        items = rendered(values)
        native |= {json.dumps(item): item for (kind, _), item in items.items() if kind not in foreign}
        on = {kind for kind, _ in items}
        assert ("Ingress" in on, "HTTPRoute" in on) == tuple(values[name]["enabled"] for name in ("ingress", "httpRoute"))
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(native.values()))
    done = tools.run(tools.locked("kubernetes-validate"), "--strict", tmp_path / "objects.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == len(native) > 20


def test_packaged_chart_renders_the_same_objects(tmp_path: Path) -> None:
    assert helm("package", CHART, "--destination", tmp_path).returncode == 0
    (packed,) = tmp_path.glob("lockgate-*.tgz")
    assert packed.stat().st_size < 1 << 20, "a release is stored in a Secret of at most 1 MiB"
    assert rendered(EVERYTHING, packed) == rendered(EVERYTHING)


def test_notes_name_the_secrets_and_a_call() -> None:
    done = helm("install", "lockgate", CHART, "--dry-run=client", "--namespace", "ai", values=EVERYTHING)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    for part in ("lockgate-gateway: key.sha256", "http://lockgate.ai.svc/v1", "https://a.example.com/v1", "/v1/chat/completions"):
        assert part in notes


def test_kustomize_builds_the_manifests() -> None:
    done = tools.run(tools.locked("kubectl"), "kustomize", tools.DEPLOY / "kubernetes")
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) == len(MANIFESTS)
