"""The page in headless Chromium, used as a person would use it, at gateways with the local model and scripted providers.

PICTURES=1 writes the pictures of the documents: PICTURES=1 .venv/bin/python -m pytest -m prove tests/page
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.admin.static_files import files
from tests.clients.client_programs import MAIN_BIN
from tests.faults.behaviours import chat_chunk, sse, status
from tests.faults.upstream_server import FaultUpstream
from tests.running import Figure, RunningGateway
from tests.support.plain_http import WITHOUT_AUTHORITIES

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
MAX_PAGE_BYTES = 200_000
MAX_FIRST_PAINT_MS = 1000
ADMIN_KEY = "admin-key-of-the-page-test-0123456789"
CALLER_KEY = "lg-of-the-file-0123456789abcdef"
MARKUP = "<img src=x onerror=\"window.canary=1\"><script>window.canary=1</script>"
pytestmark = [pytest.mark.prove, pytest.mark.timeout(240)]


async def browse(scenario: str, url: str, folder: Path, **args: Any) -> dict[str, Any]:
    """Run a scenario at the admin listener at `url` and return its result. Fail with its report if it fails."""
    assert shutil.which("chromium"), "Chromium is missing: make install-tools installs it as root"
    documents = bool(os.environ.get("PICTURES"))
    pictures = str(DOCS if documents else folder)
    given = json.dumps({"url": url, "pictures": pictures, "documents": documents, "failures": str(folder), **args})
    script, path = HERE / "scenarios" / f"{scenario}.mjs", f"{MAIN_BIN}:{os.environ['PATH']}"
    node = await asyncio.create_subprocess_exec(
        "node", str(script), given, env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, problems = await node.communicate()
    assert node.returncode == 0, f"{problems.decode()}\n(a picture of the page: {folder}/failure.png)"
    result: dict[str, Any] = json.loads(out)
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """Start `lockgate serve --demo` for the first three tests; its local engine is ready. The third test breaks its providers."""
    running = RunningGateway(None, tmp_path_factory.mktemp("demo"), args=("--demo",))
    try:
        running.wait_ready(120)
        yield running
    finally:
        running.stop()


async def test_playground_explains_sends_compares_and_shows_programs(demo: RunningGateway, tmp_path: Path) -> None:
    shown = await browse("playground", demo.admin_url, tmp_path)
    words = shlex.split(shown["command"].replace("\\\n", " "))
    async with httpx.AsyncClient(verify=WITHOUT_AUTHORITIES, trust_env=False, timeout=60) as client:
        body = words[words.index("-d") + 1]
        answer = await client.post(words[1], content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert json.loads(body)["messages"][-1]["content"] == "Why is the sky blue?"
    compile(shown["python"], "program", "exec")
    assert f'baseURL: "{demo.base_url}"' in shown["node"]


async def test_keyboard_reaches_everything_and_the_page_is_light(demo: RunningGateway, tmp_path: Path, figure: Figure) -> None:
    loaded = await browse("keyboard", demo.admin_url, tmp_path)
    weight = sum(len(file.compressed) for file in files().values())
    figure("weight of the page's files, compressed", weight / 1000, "KB")
    figure("bytes received for all views, data of the API included", loaded["bytes"] / 1000, "KB")
    figure("first paint", loaded["paintMs"], "ms")
    assert weight <= MAX_PAGE_BYTES
    assert loaded["bytes"] <= MAX_PAGE_BYTES
    assert loaded["paintMs"] < MAX_FIRST_PAINT_MS  # the best of several loads, so that a busy machine does not matter


async def test_provider_fails_and_recovers_and_calls_are_explained(demo: RunningGateway, tmp_path: Path) -> None:
    await browse("demo", demo.admin_url, tmp_path)


KEYED = """
admin: {{ key_hash: "sha256:{admin}" }}
auth: keys
journal: state
providers:
  p: {{ type: openai-compatible, base_url: "{base_url}" }}
models:
  plain: p/mock
  broken: p/refusing
  "<img src=x onerror=window.canary=3>": p/mock
keys:
  file: {{ hash: "sha256:{caller}", capture: content }}
"""


async def test_keys_limits_and_mistakes_of_an_operator_and_markup_stays_text(
    gateway: Callable[..., RunningGateway], up: FaultUpstream, tmp_path: Path
) -> None:
    up.on(lambda request: request.model == "mock", sse(chat_chunk(MARKUP, "stop")))
    up.on(lambda request: request.model == "refusing", status(400, "<script>window.canary=2</script> is not allowed."))
    hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in (("admin", ADMIN_KEY), ("caller", CALLER_KEY))}
    running = await asyncio.to_thread(gateway, KEYED.format(**hashes, base_url=up.base_url))
    await browse("keys", running.admin_url, tmp_path, key=ADMIN_KEY, config=str(tmp_path / "gateway-0" / "gateway.yaml"))
    assert up.requests[0].json["messages"][-1]["content"] == MARKUP
    output = running.output
    assert ADMIN_KEY not in output
    assert not re.search(r"lg-[\w-]{30,}", output)
