"""deploy/README.md lists every file, and its links, variables and commands are correct."""

from __future__ import annotations

import re

import yaml

from tests.deploy import tools

TEXT = (tools.DEPLOY / "README.md").read_text()
COMPOSE = (tools.ROOT / "docker-compose.yml").read_text()


def test_links_resolve() -> None:
    texts = {name: (tools.DEPLOY / name).read_text() for name in ("README.md", "sizing.md", "runbook.md")}
    links = [(name, link) for name, text in texts.items() for link in re.findall(r"\]\(([^)#]+)\)", text)]
    assert len(links) > 15
    assert [(name, link) for name, link in links if not (tools.DEPLOY / link).exists()] == []


def test_every_file_is_listed() -> None:
    named = {link.rstrip("/").partition("/")[0] for link in re.findall(r"\]\(([^)#]+)\)", TEXT)}
    existing = {path.name for path in tools.DEPLOY.iterdir()} - {"README.md", "secrets", "__pycache__"}
    assert existing - named == set()


def test_variables_of_the_stack_are_listed() -> None:
    taken = set(re.findall(r"\$\{([A-Z_]+):-", COMPOSE))
    own = {"COMPOSE_PROFILES"}  # read by docker compose itself
    assert set(re.findall(r"[`']([A-Z]+_[A-Z_]+)(?:=[^`']*)?[`']", TEXT)) == taken | own


def test_named_examples_exist() -> None:
    (line,) = [line for line in TEXT.split("\n\n") if line.startswith("`config/examples` has examples")]
    names = re.findall(r"`([a-z-]+\.yaml)`", line)
    assert len(names) == 4
    assert [name for name in names if not (tools.ROOT / "config" / "examples" / name).exists()] == []


def test_runbook_reads_the_admin_key_from_an_existing_secret() -> None:
    named = re.findall(r"get secret (\S+) -o jsonpath='\{\.data\.([a-z-]+)\}'", (tools.DEPLOY / "runbook.md").read_text())
    assert named == [("lockgate-prometheus", "admin-key")]
    assert "create secret generic lockgate-prometheus --from-file=secrets/prometheus" in TEXT
    assert 'folder / "prometheus" / "admin-key"' in (tools.DEPLOY / "first_start.py").read_text()


def test_created_secrets_are_those_that_the_manifests_mount() -> None:
    made = set(re.findall(r"create secret generic (\S+)", TEXT))
    documents = [document for path in (tools.DEPLOY / "kubernetes").glob("*.yaml") for document in yaml.safe_load_all(path.read_text())]
    (pod,) = [document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment"]
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    (monitor,) = [document["spec"]["endpoints"][0] for document in documents if document["kind"] == "ServiceMonitor"]
    assert made == mounted | {monitor["authorization"]["credentials"]["name"]}
