"""The dashboards: written by their script, complete on every panel, about metrics that exist, of Grafana's own types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import tools
from tests.deploy.dashboards import PAGES, metrics_of, panels, queries

GRAFANA = tools.DEPLOY / "grafana"
TYPES = Path(__file__).parent / "grafana"
PANELS = [pytest.param(panel, id=f"{page}: {panel['title']}") for page, panel in panels()]


def test_the_pages_are_these() -> None:
    assert set(PAGES) == {"overview", "providers", "limits-and-spend", "latency", "normalization", "health"}


def test_the_files_are_what_their_script_writes() -> None:
    done = subprocess.run([sys.executable, str(GRAFANA / "dashboards.py"), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_an_id_of_its_own_and_says_what_it_is_for(name: str) -> None:
    page = PAGES[name]
    assert page["uid"] == f"lockgate-{name}"
    assert page["description"]
    assert page["tags"] == ["lockgate"]
    ids = [panel["id"] for panel in page["panels"]]
    assert len(ids) == len(set(ids)) > 10


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_a_description_and_a_query(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 10
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({one["refId"] for one in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("name", PAGES)
def test_no_panel_covers_another(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in PAGES[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


@pytest.mark.parametrize("name", PAGES)
def test_every_variable_of_a_page_is_used_and_every_used_one_is_there(name: str) -> None:
    page = PAGES[name]
    declared = {variable["name"] for variable in page["templating"]["list"]} - {"datasource"}
    text = " ".join(one["expr"] for panel in page["panels"] for one in panel["targets"])
    assert {variable for variable in ("model", "target", "key") if f"${variable}" in text} == declared


def test_grafana_is_given_the_data_source_and_the_pages_that_the_stack_mounts() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/lockgate.yaml").read_text())["providers"]
    service = yaml.safe_load((tools.ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in service["volumes"]
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert home.stem in PAGES


def test_what_a_query_asks_for_is_found_in_it() -> None:
    found = metrics_of('(sum by (a, le) (rate(x_total{b="c_d"}[5m])) or vector(0)) / sum(rate(y_bucket[1m])) > 0.5')
    assert found == {"x_total", "y_bucket"}
    assert metrics_of("histogram_quantile(0.95, sum by (le) (rate(z_bucket[20s])))") == {"z_bucket"}


@pytest.mark.prove
def test_every_query_can_be_parsed() -> None:
    """By a parser of its own; test_live.py asks a real Prometheus."""
    program = "import sys, promql_parser\nfor line in sys.stdin: promql_parser.parse(line.strip())"
    lines = "\n".join(query for _, query in queries())
    done = tools.run(tools.PYTHON, "-c", program, stdin=lines)
    assert done.returncode == 0, done.stderr
    assert tools.run(tools.PYTHON, "-c", program, stdin=f"{lines}\nsum by (x (y)").returncode != 0


def typed(folder: Path, changed: tuple[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The pages through the TypeScript compiler, as values of Grafana's types; `changed` replaces a text in all of them."""
    folder.mkdir()
    for name in ("types.ts", "tsconfig.json"):
        (folder / name).write_text((TYPES / name).read_text())
    (folder / "node_modules").symlink_to(TYPES / "node_modules")
    for path in (GRAFANA / "dashboards").glob("*.json"):
        text = path.read_text().replace(*changed) if changed else path.read_text()
        (folder / f"{path.stem}.ts").write_text(f"import type {{ Page }} from './types';\nexport const page: Page = {text};\n")
    compiler = TYPES / "node_modules" / ".bin" / "tsc"
    assert compiler.exists(), f"{compiler} is missing: make install-tools"
    node = tools.ROOT / ".clients" / "main" / "bin"
    return tools.run(compiler, "-p", folder, env={**os.environ, "PATH": f"{node}:{os.environ['PATH']}"})


@pytest.mark.prove
def test_the_pages_are_of_grafanas_own_types_and_a_mistake_would_be_seen(tmp_path: Path) -> None:
    done = typed(tmp_path / "as-they-are")
    assert done.returncode == 0, done.stdout
    for number, change in enumerate((('"gridPos"', '"gridpos"'), ('"mode": "absolute"', '"mode": "absolut"'), ('"expr"', '"query"'))):
        assert typed(tmp_path / str(number), change).returncode != 0, change
