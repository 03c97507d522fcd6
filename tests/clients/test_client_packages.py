"""Client packages, each in a small program, with a scripted upstream and with the local model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.clients.client_programs import MAIN_BIN, OPENAI_2_BIN, run_program
from tests.clients.conftest import KEY, Front
from tests.clients.test_local_model import CITY_SCHEMA
from tests.faults.chat_script import answer_text
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]

INTERPRETERS = {
    "openai_node.mjs": MAIN_BIN / "node",
    "ai_sdk.mjs": MAIN_BIN / "node",
    "langchain_chat.py": MAIN_BIN / "python",
    "pydantic_ai_chat.py": MAIN_BIN / "python",
    "llama_index_chat.py": OPENAI_2_BIN / "python",
}


EXPECTED_RESULTS = {"ai_sdk.mjs": {"object", "tool"}, "langchain_chat.py": {"object", "tool"}, "pydantic_ai_chat.py": {"object"}}
"""Results that a program returns in addition to text."""


def run_client(name: str, interpreter: Path, base_url: str, model: str, key: str = "anything", **env: str) -> dict[str, Any]:
    """Run a client program with its base URL at a gateway."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key,
        "MODEL": model, "AI_SDK_LOG_WARNINGS": "false", "NO_PROXY": "127.0.0.1", **env,
    }  # fmt: skip
    return run_program(name, interpreter, environment)


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_package_reads_a_scripted_answer_and_stream(front: Front, name: str) -> None:
    result = run_client(name, INTERPRETERS[name], front.gateway.base_url, "chat", KEY)
    assert result["text"].strip() == result["streamed"].strip() == answer_text().strip()  # some packages trim the text
    assert result["pieces"] == 5
    assert result.get("usage_tokens", 5) == 5
    assert result.get("finish", "stop") == "stop"
    error = result.get("error")
    if error:
        assert error["status"] in (400, 404)


@pytest.mark.parametrize("name", INTERPRETERS)
def test_a_package_reads_an_answer_and_stream_of_the_local_model(local_gateway: RunningGateway, name: str) -> None:
    result = run_client(name, INTERPRETERS[name], local_gateway.base_url, "local", STRUCTURED="1")
    assert "Paris" in result["text"]
    assert result["text"].strip() == result["streamed"].strip()
    assert result["pieces"] > 3
    assert EXPECTED_RESULTS.get(name, set()) <= set(result)
    if "object" in result:
        jsonschema.validate(result["object"], CITY_SCHEMA)
    if "tool" in result:
        assert result["tool"]["name"] == "get_weather"
        assert isinstance(result["tool"]["input"]["city"], str)


def test_instructor_returns_objects_by_schema_and_by_tool(local_gateway: RunningGateway) -> None:
    result = run_client("instructor_chat.py", MAIN_BIN / "python", local_gateway.base_url, "local")
    jsonschema.validate(result["by_schema"], CITY_SCHEMA)
    jsonschema.validate(result["by_tool"], CITY_SCHEMA)


def test_the_node_package_reads_errors_ids_and_models(front: Front) -> None:
    result = run_client("openai_node.mjs", MAIN_BIN / "node", front.gateway.base_url, "chat", KEY)
    assert result["request_id"]
    assert result["error"] == {"class": "BadRequestError", "status": 400, "param": "messages", "request_id": result["error"]["request_id"]}
    assert result["error"]["request_id"]
    assert result["roles"] == ["assistant"]
    assert result["left_after"] == 3
    assert {"chat", "other"} <= set(result["models"])
