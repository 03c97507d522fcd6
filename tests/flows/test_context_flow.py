"""Conversations that are too long for their target: truncation by the gateway or the provider, errors and reports."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.problem import ConfigError
from gateway.tokens.counter import SHARED_COUNTER
from gateway.tokens.tokenizer import Tokenizer
from providers.base import Body
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.live import Live, live
from tests.running import RunningGateway

BEHAVIOUR, LIMIT = "context_length_exceeded_behavior", "prompt_truncate_len"
EXACT = Tokenizer("o200k_base", exact=True)


def conversation(turns: int, words: int = 40) -> list[dict[str, Any]]:
    """Return a system message, questions with answers and a last question."""
    messages = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        question = f"question {turn} " + "word " * words
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": f"answer {turn}"}]
    return [*messages, {"role": "user", "content": "And now?"}]


def tokens(messages: list[dict[str, Any]]) -> int:
    """Return the number of prompt tokens that OpenAI would count."""
    return SHARED_COUNTER.count_now(Body(json.dumps({"messages": messages}).encode()), EXACT).total()


def configuration(up: FaultUpstream, kind: str, target: str, context: dict[str, Any] | None = None, **more: Any) -> str:
    model = {"targets": f"up/{target}", **more} | ({"context": context} if context is not None else {})
    return json.dumps({"providers": {"up": {"type": kind, "base_url": up.base_url, "api_key": "${KEY}"}}, "models": {"m": model}})


def serving_config(text: str) -> Any:
    return live(text, environ={"KEY": "sk-upstream"})


async def ask(
    client: httpx.AsyncClient, gateway: Live, messages: list[dict[str, Any]], strict: bool = False, **more: Any
) -> httpx.Response:
    headers = {"x-gateway-receipt": "body", "x-gateway-strict": "true" if strict else "false"}
    return await client.post(gateway.base_url + "/chat/completions", json={"model": "m", "messages": messages, **more}, headers=headers)


def sent_body(up: FaultUpstream) -> dict[str, Any]:
    (request,) = up.requests
    body: dict[str, Any] = request.json
    return body


async def test_without_settings_a_long_conversation_is_forwarded_unchanged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(300)  # exceeds the context window of gpt-4
    async with serving_config(configuration(up, "openai", "gpt-4")) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=9000)
    assert sent_body(up)["messages"] == messages
    assert sent_body(up)["max_tokens"] == 9000
    assert "context" not in answer.json()["gateway"]


async def test_truncate_lowers_max_tokens_and_reports_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(100)
    prompt = tokens(messages)
    async with serving_config(configuration(up, "openai", "gpt-4", {"window": prompt + 100, "output": 4096})) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=3000, **{BEHAVIOUR: "truncate"})
    assert answer.headers["x-gateway-adjusted"].startswith(f'"{BEHAVIOUR}";enforce_locally, "max_tokens";clamp;from=3000;to=')
    body = sent_body(up)
    assert BEHAVIOUR not in body
    assert body["messages"] == messages
    report = answer.json()["gateway"]["context"]
    assert report["counted"] == "exact"
    assert report["tokenizer"] == "cl100k_base"
    assert report["prompt_tokens"] + body["max_tokens"] == report["window"] == prompt + 100
    assert report["evicted"] == []


async def test_truncate_evicts_whole_turns_if_the_prompt_alone_is_too_long(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(100)
    async with serving_config(configuration(up, "openai", "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=200, **{BEHAVIOUR: "truncate"})
    body, report = sent_body(up), answer.json()["gateway"]["context"]
    assert body["messages"] == [message for index, message in enumerate(messages) if index not in report["evicted"]]
    assert report["evicted"] == list(range(1, len(report["evicted"]) + 1))
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][1]["role"] == "user"
    assert body["messages"][-1] == messages[-1]
    assert (report["before"], report["after"]) == (tokens(messages), tokens(body["messages"]))
    assert report["after"] + body["max_tokens"] <= 1000
    assert f'"messages";truncate;from={len(messages)};to={len(body["messages"])}' in answer.headers["x-gateway-adjusted"]


async def test_prompt_truncate_len_evicts_the_earliest_turns_and_keeps_max_tokens(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving_config(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=300, **{LIMIT: 500})
    body = sent_body(up)
    assert LIMIT not in body
    assert tokens(body["messages"]) <= 500 < tokens([*messages[:1], *messages[-len(body["messages"]) - 1 :]])
    assert body["max_tokens"] == 300
    assert answer.json()["gateway"]["context"]["after"] <= 500


async def test_model_settings_limit_the_prompt_and_choose_the_policy(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving_config(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 500, "policy": "middle-out"})) as gateway:
        answer = await ask(client, gateway, messages)
    kept = sent_body(up)["messages"]
    assert messages[1] in kept
    assert messages[-3] in kept
    assert answer.json()["gateway"]["context"]["after"] <= 500


async def test_smaller_of_caller_limit_and_model_limit_applies(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving_config(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 400})) as gateway:
        answer = await ask(client, gateway, conversation(50), **{LIMIT: 1000})
    assert 300 < answer.json()["gateway"]["context"]["after"] <= 400


@pytest.mark.parametrize(("messages", "max_tokens", "pattern"), [
    (conversation(0), 2000, r"maximum context length is 1000 tokens. However, you requested 20\d\d tokens \(\d\d in the messages, 2000 in"),
    (conversation(100), None, r"maximum context length is 1000 tokens. However, your messages resulted in \d{4} tokens. Please reduce"),
], ids=["answer", "prompt"])  # fmt: skip
async def test_overflow_error_rejects_with_token_counts_before_any_upstream_request(
    up: FaultUpstream, client: httpx.AsyncClient, messages: list[dict[str, Any]], max_tokens: int | None, pattern: str
) -> None:
    more = {"max_tokens": max_tokens} if max_tokens else {}
    async with serving_config(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "error"})) as gateway:
        answer = await ask(client, gateway, messages, **more)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert error["type"] == "invalid_request_error"
    assert re.search(pattern, error["message"]), error["message"]
    assert up.requests == []


async def test_caller_overflow_setting_takes_precedence_over_the_model(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving_config(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "error"})) as gateway:
        answer = await ask(client, gateway, conversation(100), **{BEHAVIOUR: "truncate"})
    assert answer.status_code == 200


async def test_truncate_rejects_a_conversation_whose_fixed_part_does_not_fit(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = [*conversation(20)[:-1], {"role": "user", "content": "word " * 2000}]
    async with serving_config(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "truncate"})) as gateway:
        answer = await ask(client, gateway, messages)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "of which cannot be evicted" in error["message"]
    assert up.requests == []


async def test_overflow_error_falls_back_to_a_target_with_a_larger_window(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "word " * 9000}]
    text = json.dumps({
        "providers": {"up": {"type": "openai", "base_url": up.base_url, "api_key": "${KEY}"}},
        "models": {"m": {"targets": ["up/gpt-4", "up/gpt-4o"], "context": {"overflow": "error"}}},
    })  # fmt: skip
    async with serving_config(text) as gateway:
        answer = await ask(client, gateway, messages)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/gpt-4o"
    assert sent_body(up)["model"] == "gpt-4o"


@pytest.mark.parametrize("more", [{BEHAVIOUR: "truncate", "max_tokens": 900}, {LIMIT: 500}], ids=["truncate", "limit"])
async def test_strict_rejects_a_call_that_would_be_truncated(up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any]) -> None:
    async with serving_config(configuration(up, "openai", "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, conversation(100), strict=True, **more)
        short = await ask(client, gateway, conversation(1), strict=True, **{**more, "max_tokens": 100})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert short.status_code == 200
    assert len(up.requests) == 1


async def test_fireworks_receives_the_callers_parameters_unchanged(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving_config(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1")) as gateway:
        answer = await ask(client, gateway, messages, **{BEHAVIOUR: "error", LIMIT: 500})
    body = sent_body(up)
    assert (body[BEHAVIOUR], body[LIMIT], body["messages"]) == ("error", 500, messages)
    assert "context" not in answer.json()["gateway"]


async def test_fireworks_receives_the_model_settings_as_its_own_parameters(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    settings = {"overflow": "truncate", "max_prompt_tokens": 800}
    async with serving_config(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1", settings)) as gateway:
        answer = await ask(client, gateway, conversation(50))
    body = sent_body(up)
    assert (body[BEHAVIOUR], body[LIMIT]) == ("truncate", 800)
    assert f'"{BEHAVIOUR}";set_default;to="truncate"' in answer.headers["x-gateway-adjusted"]


async def test_policy_unknown_to_fireworks_is_applied_by_the_gateway(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    settings = {"policy": "middle-out", "max_prompt_tokens": 800}
    async with serving_config(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1", settings)) as gateway:
        answer = await ask(client, gateway, conversation(50))
    assert LIMIT not in sent_body(up)
    report = answer.json()["gateway"]["context"]
    assert (report["counted"], report["tokenizer"]) == ("estimated", "o200k_base x 1.2")
    assert report["after"] <= 800 < report["before"]


async def test_together_receives_the_overflow_parameter_and_the_gateway_applies_the_limit(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    async with serving_config(configuration(up, "together", "some/model")) as gateway:
        answer = await ask(client, gateway, conversation(50), **{BEHAVIOUR: "truncate", LIMIT: 500})
    body = sent_body(up)
    assert body[BEHAVIOUR] == "truncate"
    assert LIMIT not in body
    assert answer.json()["gateway"]["context"]["after"] <= 500


@pytest.mark.parametrize("kind", ["groq", "mistral", "cerebras", "xai", "deepseek", "vllm", "llamacpp", "friendli", "anthropic", "cohere"])
async def test_gateway_truncates_for_all_other_providers(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    messages = conversation(50)
    async with serving_config(configuration(up, kind, "any", {"window": 800})) as gateway:
        answer = await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 600, "max_tokens": 50})
        record = (await gateway.records(1))[0]
    body = sent_body(up)
    assert BEHAVIOUR not in body
    assert LIMIT not in body
    assert len(json.dumps(body)) < len(json.dumps(messages)) / 2
    assert "messages:truncate 102 -> 18" in record["adjustments"]
    assert answer.headers["x-gateway-adjusted"].startswith(f'"{BEHAVIOUR}";enforce_locally, "{LIMIT}";enforce_locally, "messages";truncate')


async def test_openai_compatible_server_receives_the_parameters_unless_the_model_has_settings(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    messages = conversation(50)
    async with serving_config(configuration(up, "openai-compatible", "any")) as gateway:
        await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 500})
    assert (sent_body(up)[BEHAVIOUR], sent_body(up)[LIMIT], sent_body(up)["messages"]) == ("truncate", 500, messages)
    up.reset()
    async with serving_config(configuration(up, "openai-compatible", "any", {"window": 1000})) as gateway:
        await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 500})
    assert BEHAVIOUR not in sent_body(up)
    assert len(sent_body(up)["messages"]) < len(messages)


async def test_truncate_without_a_known_window_is_dropped_and_rejected_if_strict(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving_config(configuration(up, "vllm", "mine")) as gateway:
        lenient = await ask(client, gateway, conversation(2), **{BEHAVIOUR: "truncate"})
        strict = await ask(client, gateway, conversation(2), strict=True, **{BEHAVIOUR: "truncate"})
        error = await ask(client, gateway, conversation(2), strict=True, **{BEHAVIOUR: "error"})
    assert f'"{BEHAVIOUR}";drop' in lenient.headers["x-gateway-adjusted"]
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, BEHAVIOUR)
    assert "context.window" in strict.json()["error"]["message"]
    assert error.status_code == 200


@pytest.mark.parametrize("kind", ["openai", "openai-compatible"])
async def test_unknown_overflow_value_is_rejected(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    async with serving_config(configuration(up, kind, "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, conversation(2), **{BEHAVIOUR: "ignore"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, BEHAVIOUR)


async def test_tool_calls_are_evicted_together_with_their_results(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Look everything up."}]
    for turn in range(30):
        call = {"id": f"c{turn}", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": turn})}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": "x " * 50},
        ]
    async with serving_config(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await ask(client, gateway, messages, **{LIMIT: 500})
    kept = sent_body(up)["messages"]
    assert kept[0] == messages[0]
    assert kept[-2:] == messages[-2:]
    assert {message["tool_call_id"] for message in kept if message["role"] == "tool"} == {
        message["tool_calls"][0]["id"] for message in kept if "tool_calls" in message
    }
    assert answer.json()["gateway"]["context"]["counted"] == "estimated"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_missing_usage_is_estimated_from_the_counted_prompt(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.usage = False
    messages = conversation(50)
    async with serving_config(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 500})) as gateway:
        await ask(client, gateway, messages, stream=stream)
        record = (await gateway.records(1))[0]
    assert record["prompt_tokens"] == tokens(sent_body(up)["messages"])
    assert record["estimated"] is True


async def test_missing_usage_is_counted_exactly_if_the_tokenizer_is_loaded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.usage = False
    await SHARED_COUNTER.load(EXACT)
    messages = conversation(3)
    async with serving_config(configuration(up, "openai", "gpt-4o")) as gateway:
        await ask(client, gateway, messages)
        record = (await gateway.records(1))[0]
    assert record["prompt_tokens"] == tokens(messages)


async def test_explain_shows_that_the_gateway_fits_the_conversation(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    body = {"model": "m", "messages": conversation(1), BEHAVIOUR: "truncate"}
    async with serving_config(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await client.post(gateway.base_url + "/explain", json=body)
    (plan,) = answer.json()["targets"]
    assert plan["context"]["window"] == 128_000
    assert plan["context"]["overflow"] == "truncate"
    assert plan["adjustments"][0] == {"param": BEHAVIOUR, "action": "enforce_locally", "why": "the gateway fits the conversation"}
    assert up.requests == []


async def test_outer_model_settings_override_inner_ones_key_by_key(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = json.dumps({
        "providers": {"up": {"type": "vllm", "base_url": up.base_url}},
        "models": {
            "m": {"targets": "inner", "context": {"overflow": "truncate", "output": 30}},
            "inner": {"targets": "up/mine", "context": {"window": 700, "output": 9}},
        },
    })  # fmt: skip
    async with serving_config(text) as gateway:
        answer = await ask(client, gateway, conversation(50), max_tokens=200)
    assert answer.json()["gateway"]["context"]["window"] == 700
    assert sent_body(up)["max_tokens"] == 30


async def test_models_endpoint_shows_which_side_truncates(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    support = {}
    for kind in ("openai", "fireworks", "together"):
        async with serving_config(configuration(up, kind, "any")) as gateway:
            answer = await client.get(gateway.base_url + "/models/m")
        parameters = answer.json()["targets"][0]["parameters"]
        support[kind] = [parameters[name]["support"] for name in (BEHAVIOUR, LIMIT)]
    assert support == {"openai": ["adjusted"] * 2, "fireworks": ["yes"] * 2, "together": ["yes", "adjusted"]}


async def test_tokenizer_file_without_the_tokenizers_package_is_refused(up: FaultUpstream, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    refused = pytest.raises(ConfigError, match=r'run pip install "\.\[tokenizers\]"')
    with refused if find_spec("tokenizers") is None else nullcontext():
        async with serving_config(configuration(up, "vllm", "mine", {"tokenizer": str(path), "window": 100})):
            pass


async def test_tokenizer_is_loaded_at_start_only_if_a_model_needs_it(up: FaultUpstream) -> None:
    async with serving_config(configuration(up, "openai", "gpt-4o")) as idle:
        assert idle.gateway.generation.tokenizers() == set()
    async with serving_config(configuration(up, "openai", "gpt-4o", {"overflow": "truncate"})) as counting:
        assert counting.gateway.generation.tokenizers() == {EXACT}
        assert SHARED_COUNTER.is_loaded(EXACT)


@pytest.mark.parametrize("model", ["gpt-4o", *(pytest.param(model, marks=pytest.mark.prove) for model in ("gpt-4", "mistral-large"))])
async def test_first_call_of_a_process_is_counted_in_tokens(
    up: FaultUpstream, client: httpx.AsyncClient, gateway: Callable[..., RunningGateway], model: str
) -> None:
    """The prompt has 15,000 bytes, which exceed the limit, but only 5,000 tokens, or 6,000 with an unknown tokenizer."""
    yaml = f"""
providers: {{ up: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: {{ targets: up/{model}, limits: {{ tokens: 7k/h }} }} }}
"""
    running = await asyncio.to_thread(gateway, yaml, {"UP_KEY": "sk-upstream-credential"})
    body = {"model": "m", "messages": [{"role": "user", "content": "go " * 5000}], "max_tokens": 10}
    answer = await client.post(running.base_url + "/chat/completions", json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("more", ["", ', "prompt_truncate_len": 100'], ids=["passed", "counted"])
async def test_deeply_nested_fields_still_get_a_log_record(up: FaultUpstream, client: httpx.AsyncClient, more: str) -> None:
    completion = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    up.on("/v1/chat/completions", canned(json.dumps(completion).encode()))  # the scripted upstream cannot parse such depths
    await SHARED_COUNTER.load(EXACT)
    depths = range(900, 1000, 2)
    async with serving_config(configuration(up, "vllm", "mine")) as gateway:
        for depth in depths:
            body = '{"model": "m", "messages": [{"role": "user", "content": "hi", "x": ' + "[" * depth + "]" * depth + "}]" + more + "}"
            answer = await client.post(gateway.base_url + "/chat/completions", content=body)
            assert answer.status_code in (200, 400)
        await gateway.records(len(depths))
        assert gateway.count("lockgate_internal_errors") == 0
