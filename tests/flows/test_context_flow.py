"""A conversation that is too long for its target: what is sent, what the caller is told, and who fits it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.tokens.counter import SHARED_COUNTER, Tokenizer
from providers.base import Body
from tests.faults.upstream_server import FaultUpstream, canned
from tests.flows.live import Live, live
from tests.running import RunningGateway

BEHAVIOUR, LIMIT = "context_length_exceeded_behavior", "prompt_truncate_len"
EXACT = Tokenizer("o200k_base", exact=True)


def conversation(turns: int, words: int = 40) -> list[dict[str, Any]]:
    """A system message, questions with answers, a last question."""
    messages = [{"role": "system", "content": "Be brief."}]
    for at in range(turns):
        messages += [{"role": "user", "content": f"question {at} " + "word " * words}, {"role": "assistant", "content": f"answer {at}"}]
    return [*messages, {"role": "user", "content": "And now?"}]


def tokens(messages: list[dict[str, Any]]) -> int:
    """What OpenAI would count."""
    return SHARED_COUNTER.count_now(Body(json.dumps({"messages": messages}).encode()), EXACT).total()


def configuration(up: FaultUpstream, kind: str, target: str, context: dict[str, Any] | None = None, **more: Any) -> str:
    model = {"targets": f"up/{target}", **more} | ({"context": context} if context is not None else {})
    return json.dumps({"providers": {"up": {"type": kind, "base_url": up.base_url, "api_key": "${KEY}"}}, "models": {"m": model}})


def serving(text: str) -> Any:
    return live(text, environ={"KEY": "sk-upstream"})


async def ask(
    client: httpx.AsyncClient, gateway: Live, messages: list[dict[str, Any]], strict: bool = False, **more: Any
) -> httpx.Response:
    headers = {"x-gateway-receipt": "body", "x-gateway-strict": "true" if strict else "false"}
    return await client.post(gateway.base_url + "/chat/completions", json={"model": "m", "messages": messages, **more}, headers=headers)


def sent(up: FaultUpstream) -> dict[str, Any]:
    (request,) = up.requests
    body: dict[str, Any] = request.json
    return body


async def test_nothing_is_touched_or_counted_when_nobody_asks(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(300)  # more than gpt-4 takes
    async with serving(configuration(up, "openai", "gpt-4")) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=9000)
    assert sent(up)["messages"] == messages
    assert sent(up)["max_tokens"] == 9000
    assert "context" not in answer.json()["gateway"]


async def test_truncate_lowers_the_cap_and_says_so(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(100)
    prompt = tokens(messages)
    async with serving(configuration(up, "openai", "gpt-4", {"window": prompt + 100, "output": 4096})) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=3000, **{BEHAVIOUR: "truncate"})
    assert answer.headers["x-gateway-adjusted"].startswith(f'"{BEHAVIOUR}";enforce_locally, "max_tokens";clamp;from=3000;to=')
    body = sent(up)
    assert BEHAVIOUR not in body
    assert body["messages"] == messages
    said = answer.json()["gateway"]["context"]
    assert said["counted"] == "exact"
    assert said["tokenizer"] == "cl100k_base"
    assert said["prompt_tokens"] + body["max_tokens"] == said["window"] == prompt + 100
    assert said["evicted"] == []


async def test_truncate_evicts_whole_turns_when_the_prompt_alone_is_too_long(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(100)
    async with serving(configuration(up, "openai", "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=200, **{BEHAVIOUR: "truncate"})
    body, said = sent(up), answer.json()["gateway"]["context"]
    assert body["messages"] == [message for at, message in enumerate(messages) if at not in said["evicted"]]
    assert said["evicted"] == list(range(1, len(said["evicted"]) + 1))
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][1]["role"] == "user"
    assert body["messages"][-1] == messages[-1]
    assert (said["before"], said["after"]) == (tokens(messages), tokens(body["messages"]))
    assert said["after"] + body["max_tokens"] <= 1000
    assert f'"messages";truncate;from={len(messages)};to={len(body["messages"])}' in answer.headers["x-gateway-adjusted"]


async def test_prompt_truncate_len_evicts_the_earliest_and_leaves_the_cap(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await ask(client, gateway, messages, max_tokens=300, **{LIMIT: 500})
    body = sent(up)
    assert LIMIT not in body
    assert tokens(body["messages"]) <= 500 < tokens([*messages[:1], *messages[-len(body["messages"]) - 1 :]])
    assert body["max_tokens"] == 300
    assert answer.json()["gateway"]["context"]["after"] <= 500


async def test_a_model_can_ask_for_it_and_choose_the_policy(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 500, "policy": "middle-out"})) as gateway:
        answer = await ask(client, gateway, messages)
    left = sent(up)["messages"]
    assert messages[1] in left
    assert messages[-3] in left
    assert answer.json()["gateway"]["context"]["after"] <= 500


async def test_the_smaller_of_the_callers_and_the_models_limit_counts(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 400})) as gateway:
        answer = await ask(client, gateway, conversation(50), **{LIMIT: 1000})
    assert 300 < answer.json()["gateway"]["context"]["after"] <= 400


@pytest.mark.parametrize(("messages", "cap", "words"), [
    (conversation(0), 2000, r"maximum context length is 1000 tokens. However, you requested 20\d\d tokens \(\d\d in the messages, 2000 in"),
    (conversation(100), None, r"maximum context length is 1000 tokens. However, your messages resulted in \d{4} tokens. Please reduce"),
], ids=["answer", "prompt"])  # fmt: skip
async def test_error_refuses_with_the_numbers_before_anything_is_sent(
    up: FaultUpstream, client: httpx.AsyncClient, messages: list[dict[str, Any]], cap: int | None, words: str
) -> None:
    more = {"max_tokens": cap} if cap else {}
    async with serving(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "error"})) as gateway:
        answer = await ask(client, gateway, messages, **more)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert error["type"] == "invalid_request_error"
    assert re.search(words, error["message"]), error["message"]
    assert up.requests == []


async def test_the_callers_word_counts_before_the_models(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "error"})) as gateway:
        answer = await ask(client, gateway, conversation(100), **{BEHAVIOUR: "truncate"})
    assert answer.status_code == 200


async def test_what_cannot_be_left_out_and_does_not_fit_is_refused(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = [*conversation(20)[:-1], {"role": "user", "content": "word " * 2000}]
    async with serving(configuration(up, "openai", "gpt-4o", {"window": 1000, "overflow": "truncate"})) as gateway:
        answer = await ask(client, gateway, messages)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "of which cannot be left out" in error["message"]
    assert up.requests == []


async def test_a_target_with_a_larger_window_takes_over(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "word " * 9000}]
    text = json.dumps({
        "providers": {"up": {"type": "openai", "base_url": up.base_url, "api_key": "${KEY}"}},
        "models": {"m": {"targets": ["up/gpt-4", "up/gpt-4o"], "context": {"overflow": "error"}}},
    })  # fmt: skip
    async with serving(text) as gateway:
        answer = await ask(client, gateway, messages)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "up/gpt-4o"
    assert sent(up)["model"] == "gpt-4o"


@pytest.mark.parametrize("more", [{BEHAVIOUR: "truncate", "max_tokens": 900}, {LIMIT: 500}], ids=["truncate", "limit"])
async def test_strict_refuses_what_would_be_lost(up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any]) -> None:
    async with serving(configuration(up, "openai", "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, conversation(100), strict=True, **more)
        short = await ask(client, gateway, conversation(1), strict=True, **{**more, "max_tokens": 100})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert short.status_code == 200
    assert len(up.requests) == 1


async def test_fireworks_gets_the_callers_words_as_they_are(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages = conversation(50)
    async with serving(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1")) as gateway:
        answer = await ask(client, gateway, messages, **{BEHAVIOUR: "error", LIMIT: 500})
    body = sent(up)
    assert (body[BEHAVIOUR], body[LIMIT], body["messages"]) == ("error", 500, messages)
    assert "context" not in answer.json()["gateway"]


async def test_fireworks_gets_the_models_settings_in_its_own_words(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    settings = {"overflow": "truncate", "max_prompt_tokens": 800}
    async with serving(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1", settings)) as gateway:
        answer = await ask(client, gateway, conversation(50))
    body = sent(up)
    assert (body[BEHAVIOUR], body[LIMIT]) == ("truncate", 800)
    assert f'"{BEHAVIOUR}";set_default;to="truncate"' in answer.headers["x-gateway-adjusted"]


async def test_a_policy_that_fireworks_does_not_have_is_carried_out_here(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    settings = {"policy": "middle-out", "max_prompt_tokens": 800}
    async with serving(configuration(up, "fireworks", "accounts/fireworks/models/glm-5p1", settings)) as gateway:
        answer = await ask(client, gateway, conversation(50))
    assert LIMIT not in sent(up)
    said = answer.json()["gateway"]["context"]
    assert (said["counted"], said["tokenizer"]) == ("estimated", "o200k_base x 1.2")
    assert said["after"] <= 800 < said["before"]


async def test_together_takes_one_of_the_two_itself(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(configuration(up, "together", "some/model")) as gateway:
        answer = await ask(client, gateway, conversation(50), **{BEHAVIOUR: "truncate", LIMIT: 500})
    body = sent(up)
    assert body[BEHAVIOUR] == "truncate"
    assert LIMIT not in body
    assert answer.json()["gateway"]["context"]["after"] <= 500


@pytest.mark.parametrize("kind", ["groq", "mistral", "cerebras", "xai", "deepseek", "vllm", "llamacpp", "friendli", "anthropic", "cohere"])
async def test_everywhere_else_the_gateway_does_it(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    messages = conversation(50)
    async with serving(configuration(up, kind, "any", {"window": 800})) as gateway:
        answer = await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 600, "max_tokens": 50})
        record = (await gateway.records(1))[0]
    body = sent(up)
    assert BEHAVIOUR not in body
    assert LIMIT not in body
    assert len(json.dumps(body)) < len(json.dumps(messages)) / 2
    assert "messages:truncate" in record["adjustments"]
    assert answer.headers["x-gateway-adjusted"].startswith(f'"{BEHAVIOUR}";enforce_locally, "{LIMIT}";enforce_locally, "messages";truncate')


async def test_a_server_that_nobody_knows_gets_the_words_unless_the_model_has_settings(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    messages = conversation(50)
    async with serving(configuration(up, "openai-compatible", "any")) as gateway:
        await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 500})
    assert (sent(up)[BEHAVIOUR], sent(up)[LIMIT], sent(up)["messages"]) == ("truncate", 500, messages)
    up.reset()
    async with serving(configuration(up, "openai-compatible", "any", {"window": 1000})) as gateway:
        await ask(client, gateway, messages, **{BEHAVIOUR: "truncate", LIMIT: 500})
    assert BEHAVIOUR not in sent(up)
    assert len(sent(up)["messages"]) < len(messages)


async def test_truncate_without_a_known_window_is_reported_as_not_done(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(configuration(up, "vllm", "mine")) as gateway:
        lenient = await ask(client, gateway, conversation(2), **{BEHAVIOUR: "truncate"})
        strict = await ask(client, gateway, conversation(2), strict=True, **{BEHAVIOUR: "truncate"})
        error = await ask(client, gateway, conversation(2), strict=True, **{BEHAVIOUR: "error"})
    assert f'"{BEHAVIOUR}";drop' in lenient.headers["x-gateway-adjusted"]
    assert (strict.status_code, strict.json()["error"]["param"]) == (400, BEHAVIOUR)
    assert "context.window" in strict.json()["error"]["message"]
    assert error.status_code == 200


@pytest.mark.parametrize("kind", ["openai", "openai-compatible"])
async def test_a_word_that_nobody_knows_is_a_400(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    async with serving(configuration(up, kind, "gpt-4o", {"window": 1000})) as gateway:
        answer = await ask(client, gateway, conversation(2), **{BEHAVIOUR: "ignore"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, BEHAVIOUR)


async def test_tool_calls_leave_with_their_results(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Look everything up."}]
    for at in range(30):
        call = {"id": f"c{at}", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": at})}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{at}", "content": "x " * 50},
        ]
    async with serving(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await ask(client, gateway, messages, **{LIMIT: 500})
    left = sent(up)["messages"]
    assert left[0] == messages[0]
    assert left[-2:] == messages[-2:]
    assert {one["tool_call_id"] for one in left if one["role"] == "tool"} == {
        one["tool_calls"][0]["id"] for one in left if "tool_calls" in one
    }
    assert answer.json()["gateway"]["context"]["counted"] == "estimated"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_missing_usage_is_estimated_by_what_was_counted(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    up.usage = False
    messages = conversation(50)
    async with serving(configuration(up, "openai", "gpt-4o", {"max_prompt_tokens": 500})) as gateway:
        await ask(client, gateway, messages, stream=stream)
        record = (await gateway.records(1))[0]
    assert record["prompt_tokens"] == tokens(sent(up)["messages"])
    assert record["estimated"] is True


async def test_missing_usage_is_counted_once_a_tokenizer_is_loaded(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.usage = False
    await SHARED_COUNTER.load(EXACT)
    messages = conversation(3)
    async with serving(configuration(up, "openai", "gpt-4o")) as gateway:
        await ask(client, gateway, messages)
        record = (await gateway.records(1))[0]
    assert record["prompt_tokens"] == tokens(messages)


async def test_explain_shows_who_fits_the_conversation(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    asked = {"model": "m", "messages": conversation(1), BEHAVIOUR: "truncate"}
    async with serving(configuration(up, "openai", "gpt-4o")) as gateway:
        answer = await client.post(gateway.base_url + "/explain", json=asked)
    (plan,) = answer.json()["targets"]
    assert plan["context"]["window"] == 128_000
    assert plan["context"]["overflow"] == "truncate"
    assert plan["adjustments"][0] == {"param": BEHAVIOUR, "action": "enforce_locally", "why": "the gateway fits the conversation"}
    assert up.requests == []


async def test_settings_of_the_nearest_model_win_key_by_key(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    text = json.dumps({
        "providers": {"up": {"type": "vllm", "base_url": up.base_url}},
        "models": {
            "m": {"targets": "inner", "context": {"overflow": "truncate", "output": 30}},
            "inner": {"targets": "up/mine", "context": {"window": 700, "output": 9}},
        },
    })  # fmt: skip
    async with serving(text) as gateway:
        answer = await ask(client, gateway, conversation(50), max_tokens=200)
    assert answer.json()["gateway"]["context"]["window"] == 700
    assert sent(up)["max_tokens"] == 30


async def test_models_say_who_fits_a_conversation(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    found = {}
    for kind in ("openai", "fireworks", "together"):
        async with serving(configuration(up, kind, "any")) as gateway:
            answer = await client.get(gateway.base_url + "/models/m")
        parameters = answer.json()["targets"][0]["parameters"]
        found[kind] = [parameters[name]["support"] for name in (BEHAVIOUR, LIMIT)]
    assert found == {"openai": ["adjusted"] * 2, "fireworks": ["yes"] * 2, "together": ["yes", "adjusted"]}


async def test_a_tokenizer_file_without_its_package_is_named_at_start(up: FaultUpstream, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    async with serving(configuration(up, "vllm", "mine", {"tokenizer": str(path), "window": 100})) as gateway:
        said = any("install lockgate[tokenizers]" in line for line in gateway.reports)
    assert said is (find_spec("tokenizers") is None)


async def test_the_tokenizer_is_loaded_at_start_only_where_it_may_be_needed(up: FaultUpstream) -> None:
    async with serving(configuration(up, "openai", "gpt-4o")) as idle:
        assert idle.gateway.generation.tokenizers() == set()
    async with serving(configuration(up, "openai", "gpt-4o", {"overflow": "truncate"})) as counting:
        assert counting.gateway.generation.tokenizers() == {EXACT}
        assert SHARED_COUNTER.is_loaded(EXACT)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "mistral-large"])
async def test_the_first_call_of_a_process_is_counted_in_tokens(
    up: FaultUpstream, client: httpx.AsyncClient, gateway: Callable[..., RunningGateway], model: str
) -> None:
    """By its 15,000 bytes it would be over the limit; its 5,000 words are not, with a fifth on top for a tokenizer that is not known."""
    yaml = f"""
providers: {{ up: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }} }}
models: {{ m: {{ targets: up/{model}, limits: {{ tokens: 7k/h }} }} }}
"""
    running = await asyncio.to_thread(gateway, yaml, {"UP_KEY": "sk-upstream-credential"})
    body = {"model": "m", "messages": [{"role": "user", "content": "go " * 5000}], "max_tokens": 10}
    answer = await client.post(running.base_url + "/chat/completions", json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("more", ["", ', "prompt_truncate_len": 100'], ids=["passed", "counted"])
async def test_fields_nested_as_deeply_as_can_be_read_cost_no_record(up: FaultUpstream, client: httpx.AsyncClient, more: str) -> None:
    said = {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    up.on("/v1/chat/completions", canned(json.dumps(said).encode()))  # this server reads less deeply than the gateway
    await SHARED_COUNTER.load(EXACT)
    depths = range(900, 1000, 2)
    async with serving(configuration(up, "vllm", "mine")) as gateway:
        for depth in depths:
            body = '{"model": "m", "messages": [{"role": "user", "content": "hi", "x": ' + "[" * depth + "]" * depth + "}]" + more + "}"
            answer = await client.post(gateway.base_url + "/chat/completions", content=body)
            assert answer.status_code in (200, 400)
        await gateway.records(len(depths))
        assert gateway.count("lockgate_internal_errors") == 0
