"""The package cohere with the address of the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.client_programs import MAIN_BIN, run_program
from tests.clients.conftest import KEY, Front
from tests.clients.test_anthropic_package import ARGUMENTS, call_tool, script
from tests.faults.behaviours import WORDS, canned, completion, sse, status
from tests.faults.upstream_wire import FIN

pytestmark = [pytest.mark.prove, pytest.mark.timeout(120)]
THOUGHT = {"content": "Yes.", "reasoning_content": "hm"}


def test_package_makes_every_kind_of_call(front: Front) -> None:
    script(front, b"use the tool", call_tool)
    script(front, b"sunny", canned(completion("ok")))
    script(front, b"think first", canned(json.dumps({"choices": [{"index": 0, "message": THOUGHT, "finish_reason": "stop"}]}).encode()))
    script(front, b"fail with 429", status(429))
    script(front, b"fail with 503", status(503))
    script(front, b"break the stream", sse(*WORDS, ending=FIN))
    environment = {"ORIGIN": front.gateway.url, "API_KEY": KEY, "MODEL": "chat", "NO_PROXY": "127.0.0.1", "HOME": "/"}
    result: dict[str, Any] = run_program("cohere_chat.py", MAIN_BIN / "python", environment)
    words = "w0 w1 w2 w3 w4 "
    assert result["answer"] == ["w0 w1 w2 ", "MAX_TOKENS", 3]
    assert result["thinking"] == ["hm", "Yes."]
    assert result["tool"] == ["TOOL_CALL", "get_weather", ARGUMENTS]
    assert (result["after_tool"], result["image"], result["documents"]) == ("ok", words, "COMPLETE")
    calls = ["content-start", "content-delta", "content-end", "tool-call-start", "tool-call-delta", "tool-call-end"]
    assert result["stream"] == [["message-start", *calls, "message-end"], ARGUMENTS, "TOOL_CALL"]
    assert result["usage"] == [1]
    assert result["broken"] == [["ERROR", True]]
    assert result["before_abort"] == "message-start"
    names = ["UnauthorizedError", "NotFoundError", "BadRequestError", "TooManyRequestsError", "ServiceUnavailableError"]
    assert [error[0] for error in result["errors"]] == names
    assert all(error[2] == ["id", "message"] for error in result["errors"])
    sent = [request.json for request in front.upstream.requests]
    assert any("One." in str(body["messages"][0]) for body in sent)
    assert any(message["role"] == "tool" for body in sent for message in body["messages"])
