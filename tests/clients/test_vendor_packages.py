"""The vendors' own packages, pointed at the gateway by their base URL in front of that vendor's strict server: their types parse all."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.conftest import KEY
from tests.clients.test_client_packages import MAIN, PROGRAMS, ROOT
from tests.providers.server import Reply, Request, Upstream, json_reply
from tests.providers.strict import CREDENTIAL, objections, strict_reply
from tests.providers.wires import answer
from tests.running import RunningGateway

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]
GOODFIRE = ROOT / ".clients" / "goodfire" / "bin"
VENDORS = ("cerebras", "fireworks", "friendli", "groq", "goodfire", "openai")
MODELS = {
    "cerebras": "llama3.1-8b",
    "fireworks": "accounts/fireworks/models/deepseek-v3p1",
    "friendli": "meta-llama-3.3-70b-instruct",
    "groq": "openai/gpt-oss-120b",
    "goodfire": "meta-llama/Llama-3.3-70B-Instruct",
    "openai": "gpt-4.1",
}
SAID = "Hello there"
_LIKELIEST = [{"token": token, "logprob": math.log(share)} for token, share in (("Yes", 0.75), ("No", 0.25))]
LISTED = answer({"content": "Yes"}, "length")
LISTED["choices"][0]["logprobs"] = {"content": [{**_LIKELIEST[0], "top_logprobs": _LIKELIEST}]}
"""A one-token answer with the likeliest tokens."""


@dataclass
class Front:
    """The gateway and the upstream behind it, which is every vendor at once: by the first part of the path."""

    gateway: RunningGateway
    upstream: Upstream

    def run(self, name: str, model: str, interpreter: Path = MAIN / "python", **env: str) -> dict[str, Any]:
        """What a program found out; the upstream's books hold its requests alone."""
        self.upstream.taken()
        return run_program(self.gateway, name, model, interpreter, **env)


def run_program(gateway: RunningGateway, name: str, model: str, interpreter: Path, **env: str) -> dict[str, Any]:
    """What a program found out with its base URL at this gateway."""
    environment = {"ORIGIN": gateway.url, "API_KEY": KEY, "MODEL": model, "NO_PROXY": "127.0.0.1", "HOME": "/", **env}
    done = subprocess.run(
        [str(interpreter), str(PROGRAMS / name)], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{name}:\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer_as_vendor(request: Request) -> Reply:
    """The strict server that the path's first part names, and Goodfire's call for token probabilities."""
    vendor = request.path.split("/")[1]
    if request.path.endswith("/compute-logits"):
        assert request.headers["authorization"] == f"Bearer {CREDENTIAL}"
        return json_reply({"logits": {"Yes": 0.75, "No": 0.25}})
    if "top_logprobs" in request.body and next(objections(vendor, request.body), None) is None:
        return json_reply(LISTED)
    reply = strict_reply(vendor, vendor, request)
    if vendor == "cerebras":  # whose package insists on a fingerprint in every answer and chunk
        return reply._replace(body=reply.body.replace(b'{"id": "c1"', b'{"id": "c1", "system_fingerprint": "fp_1"'))
    return reply


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
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
        yield Front(gateway, upstream)
    finally:
        gateway.stop()
        upstream.close()


def test_cerebras_warms_up_chats_and_streams(front: Front) -> None:
    found = front.run("cerebras_chat.py", MODELS["cerebras"])
    assert found["requests"][0] == ["GET", "/v1/tcp_warming", 200]
    assert found["class"] == "ChatCompletionResponse"
    assert (found["text"], found["finish"], found["usage"], found["time"]) == (SAID, "stop", 7, 0.1)
    assert (found["streamed"], found["pieces"], found["stream_usage"]) == (SAID, 2, 7)
    assert found["stream_timed"]
    assert '"max_tokens";rename;to="max_completion_tokens"' in found["adjusted"]
    assert set(found["models"]) == set(MODELS.values())
    assert (found["model"], found["refused"]) == (MODELS["cerebras"], "model_not_found")
    bodies = [request.body for request in front.upstream.taken()]
    assert bodies[0]["max_completion_tokens"] == 9


@pytest.mark.parametrize("under", ["", "/inference"])
def test_fireworks_chats_streams_and_calls_tools(front: Front, under: str) -> None:
    found = front.run("fireworks_chat.py", MODELS["fireworks"], UNDER=under)
    assert (found["text"], found["finish"], found["usage"]) == (SAID, "stop", 7)
    assert (found["streamed"], found["pieces"], found["stream_usage"]) == (SAID, 2, 7)
    assert (found["tool"][0], json.loads(found["tool"][1])) == ("get_weather", {"city": "Bern"})
    assert found["refused"] == "model_not_found"
    body = front.upstream.taken()[0].body
    assert (body["prompt_truncate_len"], body["context_length_exceeded_behavior"], body["top_k"]) == (100, "truncate", 5)


def test_friendli_chats_and_streams_through_all_its_endpoints(front: Front) -> None:
    found = front.run("friendli_chat.py", MODELS["friendli"])
    for kind in ("serverless", "dedicated", "container"):
        one = found[kind]
        assert (one["text"], one["finish"], one["usage"]) == (SAID, "stop", 7), kind
        assert (one["streamed"], one["pieces"], one["stream_usage"]) == (SAID, 2, 7), kind
    assert found["refused"] == [404, True]
    body = front.upstream.taken()[0].body
    assert (body["top_k"], body["repetition_penalty"], body["seed"]) == (5, 1.1, [1])


def test_groq_chats_and_streams(front: Front) -> None:
    found = front.run("groq_chat.py", MODELS["groq"])
    assert (found["text"], found["finish"], found["usage"]) == (SAID, "stop", 7)
    assert (found["streamed"], found["pieces"]) == (SAID, 2)
    assert set(found["models"]) == set(MODELS.values())
    assert (found["model"], found["refused"]) == (MODELS["groq"], "model_not_found")


def test_goodfire_chats_streams_and_computes_logits_with_a_goodfire_target(front: Front) -> None:
    found = front.run("goodfire_chat.py", MODELS["goodfire"], GOODFIRE / "python")
    assert found["class"] == "ChatCompletion"
    assert found["text"] == found["streamed"] == found["varied"] == SAID
    assert found["asynchronously"] == {"text": SAID, "streamed": SAID}
    assert found["indexes"] == list(range(len(found["indexes"])))
    assert found["finishes"][-1] == "stop"
    assert found["logits"] == {"Yes": 0.75, "No": 0.25}
    assert "no-such-model" in found["refused"]
    requests = front.upstream.taken()
    plain = next(request for request in requests if request.path.endswith("/v1/chat/completions"))
    assert plain.body["seed"] == 42
    assert [message["role"] for message in plain.body["messages"]] == ["system", "user"]
    varied = [request.body["controller"] for request in requests if "controller" in request.body]
    assert len(varied) == 1
    assert varied[0]["interventions"] == []
    assert any(request.path == "/goodfire/v1/chat-attribution/compute-logits" for request in requests)


def test_goodfire_chats_streams_and_computes_logits_with_a_target_of_another_vendor(front: Front) -> None:
    found = front.run("goodfire_chat.py", MODELS["friendli"], GOODFIRE / "python")
    assert found["text"] == found["streamed"] == found["varied"] == SAID
    assert found["asynchronously"] == {"text": SAID, "streamed": SAID}
    assert found["indexes"] == list(range(len(found["indexes"])))
    assert found["finishes"][-1] == "stop"
    assert found["logits"] == {"Yes": pytest.approx(0.75), "No": pytest.approx(0.25)}


def test_goodfire_chats_streams_and_computes_logits_with_the_local_model(local_gateway: RunningGateway) -> None:
    found = run_program(local_gateway, "goodfire_chat.py", "local", GOODFIRE / "python")
    assert found["text"]
    assert found["text"] == found["streamed"]
    assert found["asynchronously"]["text"] == found["asynchronously"]["streamed"]
    assert found["indexes"] == list(range(len(found["indexes"])))
    assert found["finishes"][-1] in ("stop", "length")
    assert len(found["logits"]) == 5
    assert 0 < sum(found["logits"].values()) <= 1 + 1e-6
