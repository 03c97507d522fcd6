"""The packages people build on, each a small program in its own environment, in front of a script and in front of the local model."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.clients.conftest import KEY, Front
from tests.clients.test_local_model import CITY_SCHEMA
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
MAIN, OPENAI_2 = ROOT / ".clients" / "main" / "bin", ROOT / ".clients" / "openai2" / "bin"
SCRIPTED = "".join(f"w{number} " for number in range(5))

CHATTING = {
    "openai_node.mjs": MAIN / "node",
    "ai_sdk.mjs": MAIN / "node",
    "langchain_chat.py": MAIN / "python",
    "pydantic_ai_chat.py": MAIN / "python",
    "llama_index_chat.py": OPENAI_2 / "python",
}


MUST_FIND = {"ai_sdk.mjs": {"object", "tool"}, "langchain_chat.py": {"object", "tool"}, "pydantic_ai_chat.py": {"object"}}
"""What a package was asked for beside text."""


def run_program(name: str, interpreter: Path, base_url: str, model: str, key: str = "anything", **env: str) -> dict[str, Any]:
    """What a client program found out."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key,
        "MODEL": model, "AI_SDK_LOG_WARNINGS": "false", "NO_PROXY": "127.0.0.1", **env,
    }  # fmt: skip
    command = [str(interpreter), str(PROGRAMS / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{name}:\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def strip(text: str) -> str:
    """Clients may trim what they show."""
    return text.strip()


@pytest.mark.parametrize("name", CHATTING)
def test_a_package_reads_a_scripted_answer_and_its_stream(front: Front, name: str) -> None:
    found = run_program(name, CHATTING[name], front.gateway.base_url, "chat", KEY)
    assert strip(found["text"]) == strip(found["streamed"]) == strip(SCRIPTED)
    assert found["pieces"] == 5
    assert found.get("usage_tokens", 5) == 5
    assert found.get("finish", "stop") == "stop"
    error = found.get("error")
    if error:
        assert error["status"] in (400, 404)


@pytest.mark.parametrize("name", CHATTING)
def test_a_package_reads_the_local_models_answer_and_its_stream(local_gateway: RunningGateway, name: str) -> None:
    found = run_program(name, CHATTING[name], local_gateway.base_url, "local", STRUCTURED="1")
    assert "Paris" in found["text"]
    assert strip(found["text"]) == strip(found["streamed"])
    assert found["pieces"] > 3
    assert MUST_FIND.get(name, set()) <= set(found)
    if "object" in found:
        jsonschema.validate(found["object"], CITY_SCHEMA)
    if "tool" in found:
        assert found["tool"]["name"] == "get_weather"
        assert isinstance(found["tool"]["input"]["city"], str)


def test_instructor_returns_objects_by_schema_and_by_tool(local_gateway: RunningGateway) -> None:
    found = run_program("instructor_chat.py", MAIN / "python", local_gateway.base_url, "local")
    jsonschema.validate(found["by_schema"], CITY_SCHEMA)
    jsonschema.validate(found["by_tool"], CITY_SCHEMA)


def test_the_node_package_reads_errors_ids_and_models(front: Front) -> None:
    found = run_program("openai_node.mjs", MAIN / "node", front.gateway.base_url, "chat", KEY)
    assert found["request_id"]
    assert found["error"] == {"class": "BadRequestError", "status": 400, "param": "messages", "request_id": found["error"]["request_id"]}
    assert found["error"]["request_id"]
    assert found["roles"] == ["assistant"]
    assert found["left_after"] == 3
    assert {"chat", "other"} <= set(found["models"])


def test_a_fuzzer_finds_no_undocumented_response(front: Front) -> None:
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
    command = [
        str(MAIN / "schemathesis"), "run", str(PROGRAMS.parent / "openapi.yaml"), "--url", front.gateway.base_url, "--checks", checks,
        "-H", f"Authorization: Bearer {KEY}", "--max-examples", "300", "--seed", "1", "--phases", "examples,coverage,fuzzing",
        "--mode", "all", "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=PROGRAMS)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
