"""POST /v1/completions: native where the provider has completions, as a chat where it does not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.faults.behaviours import canned, sse
from tests.faults.upstream_server import FaultUpstream
from tests.flows.conftest import RECEIPT, events, serving
from tests.flows.live import Live, live
from tests.flows.operator import bearer, digest

NATIVE = ("openai", "openai-compatible", "vllm", "fireworks", "friendli", "cerebras", "together", "openrouter", "ollama", "llamacpp")
CHAT_ONLY = ("siati", "mistral", "groq", "deepseek", "gemini", "xai")
ENVIRON = {"UP_KEY": "sk-upstream-credential"}
TOKEN = "lg-a-0123456789abcdef"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STRICT = {"x-gateway-strict": "true"}


def text_answer(*texts: str, **more: Any) -> bytes:
    """Return a text completion."""
    choices = [{"text": text, "index": at, "logprobs": None, "finish_reason": "stop"} for at, text in enumerate(texts)]
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "mock"}
    return json.dumps({**head, "choices": choices, "usage": USAGE, **more}).encode()


def chat_answer(text: str, logprobs: Any = None) -> bytes:
    """Return a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


def text_chunks(*texts: str) -> list[bytes]:
    """Return the events of a text completion."""
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "mock"}
    chunks = [{**head, "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": None}]} for text in texts]
    chunks.append({**head, "choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]})
    chunks.append({**head, "choices": [], "usage": USAGE})
    return [*(json.dumps(chunk).encode() for chunk in chunks), b"[DONE]"]


def chat_chunks(*texts: str) -> list[bytes]:
    """Return the events of a chat."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts)]
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({**head, "choices": [], "usage": USAGE})
    return [*(json.dumps(chunk).encode() for chunk in chunks), b"[DONE]"]


async def complete(
    client: httpx.AsyncClient, gateway: Live, prompt: Any = "Once", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    """Send one completion."""
    return await client.post(gateway.base_url + "/completions", json={"model": "m", "prompt": prompt, **more}, headers=headers)


def chunks_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the chunks of a stream of text completions, which must end in [DONE]."""
    *data, done = events(answer.text)
    assert done == "[DONE]"
    chunks = [json.loads(each) for each in data]
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    assert not any(chunk["id"].startswith("chatcmpl") for chunk in chunks)
    assert all("delta" not in choice for chunk in chunks for choice in chunk["choices"])
    return chunks


@pytest.mark.parametrize("kind", NATIVE)
async def test_native_completion_is_sent_as_it_is_and_its_answer_keeps_its_bytes(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str
) -> None:
    up.on("/v1/completions", canned(text_answer(" upon a time")))
    async with serving(up, kind=kind) as gateway:
        answer = await complete(client, gateway, max_tokens=5, temperature=0.5)
        (record,) = await gateway.records(1)
    assert answer.content == text_answer(" upon a time")
    assert up.requests[0].json == {"model": "mock", "prompt": "Once", "max_tokens": 5, "temperature": 0.5}
    assert (record["operation"], record["prompt_tokens"], record["output_tokens"]) == ("completions", 3, 2)


@pytest.mark.parametrize("kind", CHAT_ONLY)
@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
async def test_provider_without_completions_gets_a_chat_and_the_receipt_reports_it(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, prompt: Any
) -> None:
    up.on("/v1/chat/completions", canned(chat_answer(" upon a time")))
    async with serving(up, kind=kind) as gateway:
        answer = await complete(client, gateway, prompt, headers=RECEIPT)
        refused = await complete(client, gateway, prompt, headers=STRICT)
    body = answer.json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"text": " upon a time", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == USAGE
    sent = up.requests[0].json
    assert sent["messages"] == [{"role": "user", "content": "Once"}]
    assert sent.get("max_tokens", sent.get("max_completion_tokens")) == 16
    told = {(each["param"], each["action"]) for each in body["gateway"]["adjustments"]}
    assert {("prompt", "downgrade"), ("max_tokens", "set_default")} <= told
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
    assert len(up.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_can_be_scored_without_an_answer(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    words = [f" w{number}" for number in range(400)]
    up.on("/v1/completions", sse(*text_chunks(*words)) if stream else canned(text_answer("".join(words))))
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ output_tokens: 100/h }} }}\n"
    fields = {"echo": True, "max_tokens": 0, "logprobs": 1}
    for kind in ("openai", "vllm", "fireworks"):
        async with serving(up, keys, kind=kind) as gateway:
            answer = await complete(client, gateway, headers=bearer(TOKEN), stream=stream, **fields)
        assert answer.status_code == 200, answer.text
        sent = up.requests[-1].json
        assert {name: sent.get(name) for name in fields} == fields
        texts = [choice["text"] for chunk in chunks_of(answer) for choice in chunk["choices"]] if stream else [
            choice["text"] for choice in answer.json()["choices"]
        ]  # fmt: skip
        assert "".join(texts) == "".join(words)
        if stream:
            assert answer.headers["x-ratelimit-remaining-tokens"] == "100"


@pytest.mark.parametrize("kind", CHAT_ONLY)
async def test_chat_cannot_answer_without_output(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    async with serving(up, kind=kind) as gateway:
        refused = await complete(client, gateway, max_tokens=0)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    assert up.requests == []


async def test_streams_of_both_kinds_have_the_same_text(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/completions", sse(*text_chunks(" upon", " a", " time")))
    up.on("/v1/chat/completions", sse(*chat_chunks(" upon", " a", " time")))
    for kind in ("openai", "siati"):
        async with serving(up, kind=kind) as gateway:
            answer = await complete(client, gateway, stream=True, stream_options={"include_usage": True})
            (record,) = await gateway.records(1)
        chunks = chunks_of(answer)
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        assert "".join(choice["text"] for choice in choices) == " upon a time"
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
        assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == [USAGE]
        assert (record["prompt_tokens"], record["output_tokens"], record["stream_end"]) == (3, 2, "ok")


@pytest.mark.parametrize("kind", ["openai", "siati"])
@pytest.mark.parametrize("stream", [False, True])
async def test_gateway_ends_the_text_at_stop_strings(up: FaultUpstream, client: httpx.AsyncClient, kind: str, stream: bool) -> None:
    texts = (" upon", " a ti", "me")
    up.on("/v1/completions", sse(*text_chunks(*texts)) if stream else canned(text_answer("".join(texts))))
    up.on("/v1/chat/completions", sse(*chat_chunks(*texts)) if stream else canned(chat_answer("".join(texts))))
    async with serving(up, kind=kind) as gateway:
        answer = await complete(client, gateway, stop=["time"], stream=stream)
    choices = [choice for chunk in chunks_of(answer) for choice in chunk["choices"]] if stream else answer.json()["choices"]
    assert "".join(choice["text"] for choice in choices) == " upon a "
    assert choices[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_lists_stop_each_choice_for_itself(up: FaultUpstream, client: httpx.AsyncClient, stream: bool) -> None:
    head = {"id": "c", "object": "text_completion", "created": 1, "model": "mock"}
    pieces = [(0, "a#b"), (1, "c"), (1, "d"), (1, "#e")]
    chunks = [{**head, "choices": [{"text": text, "index": at, "finish_reason": None}]} for at, text in pieces]
    data = [json.dumps(chunk).encode() for chunk in chunks]
    up.on("/v1/completions", sse(*data, b"[DONE]") if stream else canned(text_answer("a#b", "cd#e")))
    async with serving(up, kind="openai") as gateway:
        answer = await complete(client, gateway, ["x", "y"], stop="#", stream=stream)
    choices = [choice for chunk in chunks_of(answer) for choice in chunk["choices"]] if stream else answer.json()["choices"]
    assert ["".join(choice["text"] for choice in choices if choice["index"] == at) for at in (0, 1)] == ["a", "cd"]
    assert up.requests[0].json["prompt"] == ["x", "y"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
    ],
)
async def test_what_a_chat_cannot_express_is_refused_or_goes_to_the_next_target(
    up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any], param: str
) -> None:
    up.on("/v1/completions", canned(text_answer("ok")))
    config = f"""
providers:
  chat: {{ type: siati, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
  text: {{ type: openai, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}
models: {{ m: chat/mock, both: [chat/mock, text/mock] }}
"""
    prompt = more.get("prompt", "Once")
    rest = {name: value for name, value in more.items() if name != "prompt"}
    async with live(config, environ=ENVIRON) as gateway:
        refused = await complete(client, gateway, prompt, **rest)
        answered = await complete(client, gateway, prompt, **rest, model="both")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert answered.json()["choices"][0]["text"] == "ok"
    assert up.requests[0].json == {"model": "mock", "prompt": prompt, **rest}


@pytest.mark.parametrize("more", [{"echo": False}, {"suffix": ""}, {"best_of": 1}])
async def test_values_without_effect_are_no_reason_to_refuse_a_chat(
    up: FaultUpstream, client: httpx.AsyncClient, more: dict[str, Any]
) -> None:
    up.on("/v1/chat/completions", canned(chat_answer("ok")))
    async with serving(up, kind="siati") as gateway:
        assert (await complete(client, gateway, **more)).json()["choices"][0]["text"] == "ok"
    assert more.keys().isdisjoint(up.requests[0].json)


@pytest.mark.parametrize(
    ("kind", "prompt", "sent"),
    [
        ("together", ["a"], "a"),
        ("ollama", ["a"], "a"),
        ("together", ["a", "b"], None),
        ("ollama", [1, 2], None),
        ("friendli", ["a", "b"], ["a", "b"]),
        ("friendli", [1, 2], None),
        ("openai", [[1, 2], [3]], [[1, 2], [3]]),
        ("vllm", [1, 2], [1, 2]),
        ("llamacpp", ["a", "b"], ["a", "b"]),
    ],
)
async def test_prompts_that_a_provider_cannot_take_are_refused(
    up: FaultUpstream, client: httpx.AsyncClient, kind: str, prompt: Any, sent: Any
) -> None:
    up.on("/v1/completions", canned(text_answer("ok")))
    async with serving(up, kind=kind) as gateway:
        answer = await complete(client, gateway, prompt)
    if sent is None:
        assert (answer.status_code, answer.json()["error"]["param"], up.requests) == (400, "prompt", [])
    else:
        assert (answer.status_code, up.requests[0].json["prompt"]) == (200, sent)


@pytest.mark.parametrize("kind", ["friendli", "fireworks", "together", "ollama", "llamacpp", "openai"])
async def test_parameters_that_change_the_answer_are_sent_or_refused(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    up.on("/v1/completions", canned(text_answer("ok")))
    accepts = {"openai": "echo suffix best_of", "fireworks": "echo", "together": "echo", "ollama": "suffix"}.get(kind, "")
    async with serving(up, kind=kind) as gateway:
        for name, value in (("echo", True), ("suffix", "x"), ("best_of", 2)):
            up.requests.clear()
            answer = await complete(client, gateway, **{name: value})
            if name in accepts.split():
                assert (answer.status_code, up.requests[0].json[name]) == (200, value)
            else:
                assert (answer.status_code, answer.json()["error"]["param"], up.requests) == (400, name, [])


async def test_native_log_probabilities_in_the_form_of_a_chat_are_converted(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    content = [{"token": "o", "logprob": -0.1, "top_logprobs": []}, {"token": "k", "logprob": -0.2, "top_logprobs": []}]
    choice = {"text": "ok", "index": 0, "logprobs": {"content": content}, "finish_reason": "stop"}
    up.on("/v1/completions", canned(text_answer(choices=[choice])))
    async with serving(up, kind="llamacpp") as gateway:
        answer = await complete(client, gateway, logprobs=1)
    (got,) = answer.json()["choices"]
    assert (got["text"], got["logprobs"]["tokens"], got["logprobs"]["text_offset"]) == ("ok", ["o", "k"], [0, 1])


async def test_log_probabilities_of_a_chat_have_the_form_of_a_completion(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    tops = [{"token": "He", "logprob": -0.1, "bytes": None}, {"token": "A", "logprob": -3.0, "bytes": None}]
    content = [{"token": "He", "logprob": -0.1, "top_logprobs": tops}, {"token": "llo", "logprob": -0.2, "top_logprobs": []}]
    up.on("/v1/chat/completions", canned(chat_answer("Hello", {"content": content})))
    async with serving(up, kind="xai") as gateway:
        answer = await complete(client, gateway, logprobs=2)
    assert (up.requests[0].json["logprobs"], up.requests[0].json["top_logprobs"]) == (True, 2)
    assert answer.json()["choices"][0]["logprobs"] == {
        "tokens": ["He", "llo"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"He": -0.1, "A": -3.0}, {}],
        "text_offset": [0, 2],
    }


async def test_echo_leaves_stop_strings_to_the_provider(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/completions", canned(text_answer("Once. upon")))
    async with serving(up, kind="openai") as gateway:
        answer = await complete(client, gateway, "Once.", echo=True, stop=".")
    assert answer.json()["choices"][0]["text"] == "Once. upon"
    assert up.requests[0].json["stop"] == "."


INVALID_FIELDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"prompt": None}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt[1]"),
    ({"prompt": [[1], []]}, "prompt[1]"),
    ({"prompt": ["a"] * 129}, "prompt"),
    ({"messages": []}, "messages"),
    ({"echo": "yes"}, "echo"),
    ({"suffix": 1}, "suffix"),
    ({"best_of": 0}, "best_of"),
    ({"best_of": 21}, "best_of"),
    ({"best_of": "3"}, "best_of"),
    ({"best_of": 2, "n": 3}, "best_of"),
    ({"best_of": 2, "stream": True}, "best_of"),
    ({"logprobs": True}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"stop": 5}, "stop"),
    ({"api_base": "http://x"}, "api_base"),
)


async def test_invalid_field_is_a_400_that_names_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up) as gateway:
        for more, param in INVALID_FIELDS:
            answer = await client.post(gateway.base_url + "/completions", json={"model": "m", "prompt": "a", **more})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert up.requests == []


@pytest.mark.parametrize("kind", ["openai", "cerebras", "fireworks", "friendli"])
async def test_unknown_fields_are_dropped_and_strict_mode_refuses_them(up: FaultUpstream, client: httpx.AsyncClient, kind: str) -> None:
    up.on("/v1/completions", canned(text_answer("ok")))
    async with serving(up, kind=kind) as gateway:
        answer = await complete(client, gateway, colour="red", headers=RECEIPT)
        refused = await complete(client, gateway, colour="red", headers=STRICT)
    assert [(each["param"], each["action"]) for each in answer.json()["gateway"]["adjustments"]] == [("colour", "drop")]
    assert "colour" not in up.requests[0].json
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "colour")


async def test_reservation_covers_every_candidate_of_every_prompt(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on("/v1/completions", canned(text_answer("a", "b")))
    keys = f"keys:\n  team: {{ hash: '{digest(TOKEN)}', limits: {{ output_tokens: 1000/h }} }}\n"
    async with serving(up, keys, kind="openai") as gateway:
        first = await complete(client, gateway, ["x", "y"], headers=bearer(TOKEN), max_tokens=50, best_of=4, n=2)
        second = await complete(client, gateway, [1, 2, 3], headers=bearer(TOKEN), max_tokens=10)
    assert first.headers["x-ratelimit-remaining-tokens"] == str(1000 - 2 * 4 * 50)
    assert second.headers["x-ratelimit-remaining-tokens"] == str(1000 - 2 - 10)
