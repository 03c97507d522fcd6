"""Packages of the vendors with the gateway as base URL and a strict server of the vendor as upstream."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.client_programs import GOODFIRE_BIN, MAIN_BIN, run_program
from tests.clients.conftest import KEY
from tests.providers.server import Reply, Request, Upstream, json_reply
from tests.providers.strict import CREDENTIAL, objections, strict_reply
from tests.providers.wires import answer
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
VENDORS = ("cerebras", "fireworks", "friendli", "groq", "goodfire", "openai")
MODELS = {
    "cerebras": "llama3.1-8b",
    "fireworks": "accounts/fireworks/models/deepseek-v3p1",
    "friendli": "meta-llama-3.3-70b-instruct",
    "groq": "openai/gpt-oss-120b",
    "goodfire": "meta-llama/Llama-3.3-70B-Instruct",
    "openai": "gpt-4.1",
}
CONTENT = "Hello there"
_LIKELIEST = [{"token": token, "logprob": math.log(share)} for token, share in (("Yes", 0.75), ("No", 0.25))]
LOGPROBS_ANSWER = answer({"content": "Yes"}, "length")
LOGPROBS_ANSWER["choices"][0]["logprobs"] = {"content": [{**_LIKELIEST[0], "top_logprobs": _LIKELIEST}]}
"""A one-token answer with the log probabilities of the most likely tokens."""


@dataclass
class VendorFront:
    """A gateway and its upstream, which acts as the vendor named by the first part of the path."""

    gateway: RunningGateway
    upstream: Upstream

    def run(self, name: str, model: str, interpreter: Path = MAIN_BIN / "python", **env: str) -> dict[str, Any]:
        """Run a program and return its result. Afterwards, the upstream has recorded only the program's requests."""
        self.upstream.taken()
        return run_client(self.gateway, name, model, interpreter, **env)


def run_client(gateway: RunningGateway, name: str, model: str, interpreter: Path, **env: str) -> dict[str, Any]:
    """Run a program with its base URL at this gateway."""
    environment = {"ORIGIN": gateway.url, "API_KEY": KEY, "MODEL": model, "NO_PROXY": "127.0.0.1", "HOME": "/", **env}
    return run_program(name, interpreter, environment)


def answer_as_vendor(request: Request) -> Reply:
    """Answer as the strict server of the vendor in the path, or as Goodfire's API for token probabilities."""
    vendor = request.path.split("/")[1]
    if request.path.endswith("/compute-logits"):
        assert request.headers["authorization"] == f"Bearer {CREDENTIAL}"
        return json_reply({"logits": {"Yes": 0.75, "No": 0.25}})
    if "top_logprobs" in request.body and next(objections(vendor, request.body), None) is None:
        return json_reply(LOGPROBS_ANSWER)
    reply = strict_reply(vendor, vendor, request)
    if vendor == "cerebras":  # its package requires a fingerprint in each answer and chunk
        return reply._replace(body=reply.body.replace(b'{"id": "c1"', b'{"id": "c1", "system_fingerprint": "fp_1"'))
    return reply


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorFront]:
    """Return a gateway with one provider for each vendor, and its upstream."""
    upstream = Upstream(answer_as_vendor)
    folder = tmp_path_factory.mktemp("vendors")
    config = {
        "providers": {
            vendor: {"type": vendor, "base_url": f"{upstream.url}/{vendor}/v1", "api_key": "${UPSTREAM_KEY}"} for vendor in VENDORS
        },
        "models": {MODELS[vendor]: f"{vendor}/{MODELS[vendor]}" for vendor in VENDORS},
        "keys": {"vendors": {"hash": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()}},
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    gateway = RunningGateway(folder / "gateway.yaml", folder, {"UPSTREAM_KEY": CREDENTIAL})
    try:
        yield VendorFront(gateway, upstream)
    finally:
        gateway.stop()
        upstream.close()


def test_cerebras_warms_up_chats_and_streams(front: VendorFront) -> None:
    result = front.run("cerebras_chat.py", MODELS["cerebras"])
    assert result["requests"][0] == ["GET", "/v1/tcp_warming", 200]
    assert result["class"] == "ChatCompletionResponse"
    assert (result["text"], result["finish"], result["usage"], result["time"]) == (CONTENT, "stop", 7, 0.1)
    assert (result["streamed"], result["pieces"], result["stream_usage"]) == (CONTENT, 2, 7)
    assert result["stream_timed"]
    assert '"max_tokens";rename;to="max_completion_tokens"' in result["adjusted"]
    assert set(result["models"]) == set(MODELS.values())
    assert (result["model"], result["refused"]) == (MODELS["cerebras"], "model_not_found")
    bodies = [request.body for request in front.upstream.taken()]
    assert bodies[0]["max_completion_tokens"] == 9


@pytest.mark.parametrize("under", ["", "/inference"])
def test_fireworks_chats_streams_and_calls_tools(front: VendorFront, under: str) -> None:
    result = front.run("fireworks_chat.py", MODELS["fireworks"], UNDER=under)
    assert (result["text"], result["finish"], result["usage"]) == (CONTENT, "stop", 7)
    assert (result["streamed"], result["pieces"], result["stream_usage"]) == (CONTENT, 2, 7)
    assert (result["tool"][0], json.loads(result["tool"][1])) == ("get_weather", {"city": "Bern"})
    assert result["refused"] == "model_not_found"
    body = front.upstream.taken()[0].body
    assert (body["prompt_truncate_len"], body["context_length_exceeded_behavior"], body["top_k"]) == (100, "truncate", 5)


def test_friendli_chats_and_streams_through_all_its_endpoints(front: VendorFront) -> None:
    result = front.run("friendli_chat.py", MODELS["friendli"])
    for kind in ("serverless", "dedicated", "container"):
        answers = result[kind]
        assert (answers["text"], answers["finish"], answers["usage"]) == (CONTENT, "stop", 7), kind
        assert (answers["streamed"], answers["pieces"], answers["stream_usage"]) == (CONTENT, 2, 7), kind
    assert result["refused"] == [404, True]
    body = front.upstream.taken()[0].body
    assert (body["top_k"], body["repetition_penalty"], body["seed"]) == (5, 1.1, [1])


def test_groq_chats_and_streams(front: VendorFront) -> None:
    result = front.run("groq_chat.py", MODELS["groq"])
    assert (result["text"], result["finish"], result["usage"]) == (CONTENT, "stop", 7)
    assert (result["streamed"], result["pieces"]) == (CONTENT, 2)
    assert set(result["models"]) == set(MODELS.values())
    assert (result["model"], result["refused"]) == (MODELS["groq"], "model_not_found")


def test_goodfire_chats_streams_and_computes_logits_with_a_goodfire_target(front: VendorFront) -> None:
    result = front.run("goodfire_chat.py", MODELS["goodfire"], GOODFIRE_BIN / "python")
    assert result["class"] == "ChatCompletion"
    assert result["text"] == result["streamed"] == result["varied"] == CONTENT
    assert result["asynchronously"] == {"text": CONTENT, "streamed": CONTENT}
    assert result["indexes"] == list(range(len(result["indexes"])))
    assert result["finishes"][-1] == "stop"
    assert result["logits"] == {"Yes": 0.75, "No": 0.25}
    assert "no-such-model" in result["refused"]
    requests = front.upstream.taken()
    plain = next(request for request in requests if request.path.endswith("/v1/chat/completions"))
    assert plain.body["seed"] == 42
    assert [message["role"] for message in plain.body["messages"]] == ["system", "user"]
    varied = [request.body["controller"] for request in requests if "controller" in request.body]
    assert len(varied) == 1
    assert varied[0]["interventions"] == []
    assert any(request.path == "/goodfire/v1/chat-attribution/compute-logits" for request in requests)


def test_goodfire_chats_streams_and_computes_logits_with_a_target_of_another_vendor(front: VendorFront) -> None:
    result = front.run("goodfire_chat.py", MODELS["friendli"], GOODFIRE_BIN / "python")
    assert result["text"] == result["streamed"] == result["varied"] == CONTENT
    assert result["asynchronously"] == {"text": CONTENT, "streamed": CONTENT}
    assert result["indexes"] == list(range(len(result["indexes"])))
    assert result["finishes"][-1] == "stop"
    assert result["logits"] == {"Yes": pytest.approx(0.75), "No": pytest.approx(0.25)}


def test_goodfire_chats_streams_and_computes_logits_with_the_local_model(local_gateway: RunningGateway) -> None:
    result = run_client(local_gateway, "goodfire_chat.py", "local", GOODFIRE_BIN / "python")
    assert result["text"]
    assert result["text"] == result["streamed"]
    assert result["asynchronously"]["text"] == result["asynchronously"]["streamed"]
    assert result["indexes"] == list(range(len(result["indexes"])))
    assert result["finishes"][-1] in ("stop", "length")
    assert len(result["logits"]) == 5
    assert 0 < sum(result["logits"].values()) <= 1 + 1e-6
