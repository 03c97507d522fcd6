"""The registry of providers: built-in types and installed packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules

import httpx
import pytest
import yaml

import providers
from providers.base import Provider
from tests.providers.cases import FIXTURES
from tests.providers.server import Upstream, json_reply
from tests.running import RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES

ROOT = FIXTURES.parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example package with pip into a folder of its own."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(FIXTURES / "plugin", source)
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", str(site), str(source)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return site


def _python(installed: Path, program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_built_in_type_loads() -> None:
    assert {kind: providers.get(kind).type for kind in providers.OURS} == {kind: kind for kind in providers.OURS}


def test_every_module_is_a_provider_or_listed_as_shared() -> None:
    modules = {module.name for module in iter_modules(providers.__path__)}
    assert modules >= providers.SHARED
    for kind in providers.OURS:
        assert Provider in type(providers.get(kind)).__mro__



def test_unknown_type_suggests_the_closest_one() -> None:
    with pytest.raises(KeyError, match="unknown provider type 'cerebas', did you mean 'cerebras'"):
        providers.get("cerebas")


def test_an_installed_package_brings_its_type_and_its_settings(installed: Path) -> None:
    shown = "providers.types(), providers.is_known('shout'), providers.options_of('shout').__name__"
    types, is_known, settings = json.loads(_python(installed, f"import providers, json; print(json.dumps([{shown}]))"))
    assert "shout" in types
    assert is_known
    assert settings == "ShoutSettings"
    assert not providers.is_known("shout")
    assert "shout" not in providers.types(), "the type exists only where its package is installed"


def test_the_installed_provider_passes_the_conformance_checks(installed: Path) -> None:
    program = "import providers; from providers.conformance import problems; print(problems(providers.get('shout')))"
    assert _python(installed, program) == "[]\n"


def test_the_gateway_serves_through_the_installed_provider(installed: Path, tmp_path: Path) -> None:
    upstream = Upstream(lambda request: json_reply({"shout": request.body["text"].upper() + "!" * request.body["marks"]}))
    config = {
        "providers": {"loud": {"type": "shout", "base_url": upstream.url + "/v1", "marks": 3}},
        "models": {"m": "loud/megaphone"},
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = RunningGateway(path, tmp_path, {"PYTHONPATH": str(installed)})
    try:
        request = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 1}
        response = httpx.post(gateway.base_url + "/chat/completions", verify=WITHOUT_AUTHORITIES, json=request, timeout=30, trust_env=False)
    finally:
        gateway.stop()
        upstream.close()
    assert response.json()["choices"][0]["message"]["content"] == "HELLO!!!"
    assert response.headers["x-gateway-adjusted"] == '"temperature";drop'
    assert upstream.taken()[0].path == "/v1/shout"
