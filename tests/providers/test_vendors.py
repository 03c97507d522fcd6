"""Facts of single vendors: requests, errors and chunks that one vendor adapts, classifies or repairs in its own way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from providers.azure import AZURE
from providers.base import Body, Options, Refusal, StreamFailure, Target
from providers.fireworks import FIREWORKS
from providers.friendli import FRIENDLI
from providers.gemini import GEMINI
from providers.groq import GROQ, move_usage
from providers.llamacpp import LLAMACPP
from providers.ollama import OLLAMA
from providers.openai import OPENAI
from providers.openai_compatible import OpenAICompatible
from providers.openrouter import OPENROUTER
from providers.responses_wire.models import REASONING_FAMILIES
from providers.siati import SIATI, SiatiSettings
from providers.streams import ChunkNormalizer
from providers.together import TOGETHER, convert_logprobs
from providers.vllm import VLLM
from providers.xai import XAI
from tests.providers.adapting import adapt
from tests.support.each import each


@each(
    ("provider", "request_", "sent", "actions"),
    [
        (FIREWORKS, {"clear_thinking": True}, {"reasoning_history": "disabled"}, [("clear_thinking", "reshape")]),
        (FRIENDLI, {"reasoning_format": "parsed"}, {"parse_reasoning": True}, [("reasoning_format", "reshape")]),
        (GEMINI, {"reasoning_effort": "max"}, {"reasoning_effort": "high"}, [("reasoning_effort", "clamp")]),
        (GROQ, {"n": 1, "user": "u"}, {"n": 1, "user": "u"}, []),
        (LLAMACPP, {"mirostat_lr": 0.1}, {"mirostat_eta": 0.1}, [("mirostat_lr", "rename")]),
        (OPENROUTER, {"reasoning_effort": "max"}, {"reasoning_effort": "xhigh"}, [("reasoning_effort", "clamp")]),
        (TOGETHER, {"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}, [("top_logprobs", "rename")]),
        (VLLM, {"eos_token": [2]}, {"stop_token_ids": [2]}, [("eos_token", "rename")]),
        (XAI, {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, [("reasoning_effort", "clamp")]),
    ],
)
def test_parameter_is_adapted_for_the_vendor(
    provider: OpenAICompatible, request_: dict[str, Any], sent: dict[str, Any], actions: list[tuple[str, str]]
) -> None:
    adapted = adapt(provider.type, request_)
    assert {name: adapted.sent[name] for name in sent} == sent
    assert [action for action in adapted.actions() if action[0] in request_] == actions


@pytest.mark.parametrize("provider", [OLLAMA, LLAMACPP, VLLM])
def test_servers_of_the_operator_need_no_credential(provider: OpenAICompatible) -> None:
    target = Target("p/m", "p", provider, "m", provider.default_base_url or "")
    assert not provider.needs_credential
    assert "authorization" not in dict(provider.probe_headers(target))


def test_openai_reasoning_families_are_matched_by_the_longest_prefix() -> None:
    prefixes = [family.prefix for family in REASONING_FAMILIES]
    shadowed = [later for index, later in enumerate(prefixes) for earlier in prefixes[:index] if later.startswith(earlier)]
    assert shadowed == [], "a general prefix precedes a special one"
    assert "stop" not in adapt(OPENAI.type, {"stop": "x"}, model="gpt-5").sent
    assert adapt(OPENAI.type, {"stop": "x"}, model="o1").sent["stop"] == "x"


def test_azure_sends_the_deployment_in_the_classic_path_and_applies_the_rules_of_the_base_model() -> None:
    settings = {"api": "classic", "api_version": "2024-10-21", "base_model": "o1"}
    target = Target("azure/d", "azure", AZURE, "my deployment", "https://r.openai.azure.com/openai", "KEY", options=settings)
    body = Body(b'{"model":"m","messages":[],"max_tokens":5}')
    AZURE.adapt(body, target, Options())
    request = AZURE.encode(body, target, Options())
    assert request.path == "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    assert dict(request.headers)["api-key"] == "KEY"
    assert json.loads(request.body)["max_completion_tokens"] == 5


def test_groq_reports_errors_and_usage_inside_x_groq() -> None:
    chunk: dict[str, Any] = {"choices": [], "x_groq": {"usage": {"prompt_tokens": 1}}}
    assert move_usage(chunk)
    assert chunk == {"choices": [], "x_groq": {}, "usage": {"prompt_tokens": 1}}
    with pytest.raises(StreamFailure, match="too long"):
        move_usage({"x_groq": {"error": "too long"}})


@pytest.mark.parametrize(
    ("provider", "status", "kind", "code"),
    [(GROQ, 498, "overloaded", None), (TOGETHER, 403, "context_overflow", "context_length_exceeded"), (OPENAI, 403, "auth", None)],
)
def test_status_is_classified_for_the_vendor(provider: OpenAICompatible, status: int, kind: str, code: str | None) -> None:
    failure = provider.failure(status, {}, b"{}")
    assert (failure.kind, failure.code) == (kind, code)


def test_siati_requires_alternating_turns_and_a_known_tier() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert adapt(SIATI.type, {"messages": turns}).sent["messages"] == [{"role": "user", "content": "a\n\nb"}]
    with pytest.raises(Refusal, match="turns must alternate"):
        adapt(SIATI.type, {"messages": turns}, strict=True)
    with pytest.raises(ValueError, match="tier must be one of slow, medium, fast, ludicrous"):
        SiatiSettings(tier="warp")


def test_together_logprobs_of_a_chunk_become_one_entry() -> None:
    chunk: dict[str, Any] = {"choices": [{"delta": {"content": "a"}, "logprobs": -0.5}]}
    assert convert_logprobs(chunk)
    (entry,) = chunk["choices"][0]["logprobs"]["content"]
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("a", -0.5, [97])


def test_vllm_takes_a_regex_format_as_structured_outputs() -> None:
    adapted = adapt(VLLM.type, {"response_format": {"type": "regex", "schema": "a+"}})
    assert adapted.sent["structured_outputs"] == {"regex": "a+"}
    assert "response_format" not in adapted.sent


def test_repair_of_a_vendor_runs_on_the_first_chunk_of_each_sort() -> None:
    seen: list[str] = []

    def repair(chunk: dict[str, Any]) -> bool:
        seen.append(chunk["choices"][0]["delta"]["content"])
        return False

    decoder = ChunkNormalizer((repair,))
    head = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"'
    role = head.replace('"content"', '"role":"assistant","content"') + '"},"finish_reason":null}]}'
    assert decoder.feed("", role.encode()) == (role.encode(),)
    for text, rest in (("a", ""), ("b", ""), ("c", ',"word":1'), ("d", "")):
        data = f'{head}{text}"}},"finish_reason":null{rest}}}]}}'.encode()
        assert decoder.feed("", data) == (data,)
    assert seen == ["", "a", "c"]
    with pytest.raises(msgspec.DecodeError):
        decoder.feed("", b"not JSON")
    assert decoder.end() == ()
