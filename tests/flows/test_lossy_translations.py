"""Parts of a request that its translation to a chat completion leaves out: strict models and required parameters refuse them."""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import pytest

from tests.faults.upstream_server import FaultUpstream
from tests.faults.upstream_wire import Script
from tests.flows.conftest import CREDENTIAL
from tests.flows.live import live
from tests.native import anthropic_fake, cohere_fake, responses_fake

ENVIRON = {"UP_KEY": CREDENTIAL, "ANTHROPIC_KEY": anthropic_fake.KEY, "COHERE_KEY": cohere_fake.KEY, "OPENAI_KEY": responses_fake.KEY}
REQUIRED = {"x-gateway-require-parameters": "true"}
TEXT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A fox."}, "citations": {"enabled": True}}
HELLO = [{"role": "user", "content": "hello"}]


class Lossy(NamedTuple):
    """A request that a chat completion cannot fully express."""

    path: str
    body: dict[str, Any]
    param: str
    """The field that is left out."""
    native: str
    """The type of the provider that honours the field."""
    model: str
    answer: Script


LOSSY = (
    Lossy(
        "/v1/messages", {"max_tokens": 50, "messages": [{"role": "user", "content": [TEXT, {"type": "text", "text": "What is it?"}]}]},
        "messages[0].content[0].citations", "anthropic", "claude-opus-4-6", anthropic_fake.speaks_messages(),
    ),
    Lossy(
        "/v1/messages", {"max_tokens": 50, "messages": HELLO, "metadata": {"user_id": "u", "tags": [1]}},
        "metadata.tags", "anthropic", "claude-opus-4-6", anthropic_fake.speaks_messages(),
    ),
    Lossy(
        "/v1/responses", {"input": "hello", "context_management": [{"type": "compaction", "compact_threshold": 9000}]},
        "context_management", "openai", "gpt-4o", responses_fake.speaks_responses(),
    ),
    Lossy(
        "/v2/chat", {"messages": HELLO, "documents": ["A fox is red."]},
        "documents", "cohere", "command-a-03-2025", cohere_fake.speaks_cohere(),
    ),
)  # fmt: skip
every_lossy = pytest.mark.parametrize("lossy", LOSSY, ids=lambda lossy: lossy.param)


def config(up: FaultUpstream, lossy: Lossy, models: str) -> str:
    """Return a configuration with the target `up/chat`, whose calls are translated, and the provider `native`."""
    key = f"${{{lossy.native.upper()}_KEY}}"
    base_url = up.base_url.replace("/v1", "/v2") if lossy.native == "cohere" else up.base_url
    return f"""
providers:
  up: {{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  native: {{ type: {lossy.native}, base_url: "{base_url}", api_key: "{key}" }}
models:
{models}
"""


def param_of(answer: httpx.Response) -> str:
    """Return the parameter that an error names, which is quoted in its message."""
    assert answer.status_code == 400, answer.text
    decoded = answer.json()
    message: str = decoded["error"]["message"] if "error" in decoded else decoded["message"]
    return message.split("'")[1]


@every_lossy
async def test_a_strict_model_rejects_what_its_translation_loses(up: FaultUpstream, client: httpx.AsyncClient, lossy: Lossy) -> None:
    models = "  m: { targets: up/chat, strict: true }\n  lenient: up/chat"
    async with live(config(up, lossy, models), environ=ENVIRON) as gateway:
        strict = await client.post(gateway.url + lossy.path, json={"model": "m", **lossy.body})
        lenient = await client.post(gateway.url + lossy.path, json={"model": "lenient", **lossy.body})
        explained = await client.post(f"{gateway.url}{lossy.path}/explain", json={"model": "m", **lossy.body})
    assert param_of(strict) == lossy.param
    assert lenient.status_code == 200
    assert lossy.param in lenient.headers["x-gateway-adjusted"]
    assert lossy.param in explained.text
    assert len(up.requests) == 1


@every_lossy
async def test_a_strict_target_is_skipped_and_a_lenient_one_answers(up: FaultUpstream, client: httpx.AsyncClient, lossy: Lossy) -> None:
    models = "  m: [strict, up/second]\n  strict: { targets: up/chat, strict: true }"
    async with live(config(up, lossy, models), environ=ENVIRON) as gateway:
        answer = await client.post(gateway.url + lossy.path, json={"model": "m", **lossy.body})
    assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, "up/second")


@every_lossy
async def test_required_parameters_skip_targets_whose_translation_loses_one(
    up: FaultUpstream, client: httpx.AsyncClient, lossy: Lossy
) -> None:
    up.on(lossy.path, lossy.answer)
    native = f"native/{lossy.model}"
    models = f"  m: [up/chat, {native}]\n  only: up/chat"
    async with live(config(up, lossy, models), environ=ENVIRON) as gateway:
        answer = await client.post(gateway.url + lossy.path, json={"model": "m", **lossy.body}, headers=REQUIRED)
        refused = await client.post(gateway.url + lossy.path, json={"model": "only", **lossy.body}, headers=REQUIRED)
    assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, native), answer.text
    assert param_of(refused) == lossy.param


@pytest.mark.parametrize("setting", ["strict: true", "require_parameters: true"])
async def test_a_request_without_losses_is_answered_nevertheless(up: FaultUpstream, client: httpx.AsyncClient, setting: str) -> None:
    usual = (
        ("/v1/messages", {"max_tokens": 50, "messages": HELLO}), ("/v1/responses", {"input": "hello"}), ("/v2/chat", {"messages": HELLO})
    )  # fmt: skip
    async with live(config(up, LOSSY[0], f"  m: {{ targets: up/chat, {setting} }}"), environ=ENVIRON) as gateway:
        for path, body in usual:
            answer = await client.post(gateway.url + path, json={"model": "m", **body})
            assert answer.status_code == 200, answer.text
