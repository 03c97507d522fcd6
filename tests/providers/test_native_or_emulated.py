"""Lists of seeds, `n` and prompt limits: the providers that get them, and those for which the gateway emulates them.

A strict server accepts only the fields in its facts, so a field that arrives there is native.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.gateway_process import Gateway, running
from tests.providers.server import Reply, Upstream
from tests.providers.strict import strict_reply
from tests.providers.test_strict_servers import SERVERS, _way
from tests.support.each import each

SEED_LISTS = {"friendli"}
CHOICES = {
    "cerebras", "fireworks", "friendli", "openai", "openai_reasoning", "azure", "gemini", "mistral", "together", "vllm", "llamacpp", "xai",
}  # fmt: skip
SEEDLESS = {"anthropic", "gemini", "deepseek"}
PROMPT_LIMITS = {"fireworks"}
TURNS = [{"role": "user", "content": "word " * 400}, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    upstream = Upstream(lambda _: Reply(500))
    with running([_way(server) for server in SERVERS], upstream, tmp_path_factory.mktemp("gateway")) as result:
        yield result
    upstream.close()


def ask(gateway: Gateway, server: str, **more: object) -> list[dict[str, object]]:
    """Return the bodies that a provider's strict server accepted for one call."""
    way = _way(server)
    gateway.upstream.answer = lambda request: strict_reply(server, way.kind, request)
    response = gateway.ask(way, {"messages": TURNS, "max_tokens": 20, **more})
    assert response.status_code == 200, response.text
    return [request.body for request in gateway.upstream.taken()]


@each("server", SERVERS)
def test_list_of_seeds_is_sent_natively_or_as_one_request_per_seed(gateway: Gateway, server: str) -> None:
    bodies = ask(gateway, server, n=2, seed=[3, 4])
    if server in SEED_LISTS:
        assert [(body["n"], body["seed"]) for body in bodies] == [(2, [3, 4])]
        return
    assert len(bodies) == 2
    assert all("n" not in body or body["n"] == 1 for body in bodies)
    seeds = sorted(str(body.get("seed", body.get("random_seed"))) for body in bodies)
    assert seeds == (["None", "None"] if server in SEEDLESS else ["3", "4"])


@each("server", SERVERS)
def test_several_choices_are_one_request_if_the_provider_supports_n(gateway: Gateway, server: str) -> None:
    bodies = ask(gateway, server, n=2)
    assert [body.get("n") for body in bodies] == ([2] if server in CHOICES else [body.get("n") for body in bodies])
    assert len(bodies) == (1 if server in CHOICES else 2)


@each("server", SERVERS)
def test_prompt_limit_is_native_or_enforced_by_the_gateway(gateway: Gateway, server: str) -> None:
    (body,) = ask(gateway, server, prompt_truncate_len=100)
    messages = body["messages"]
    assert isinstance(messages, list)
    if server in PROMPT_LIMITS:
        assert (body["prompt_truncate_len"], len(messages)) == (100, len(TURNS))
    else:
        assert "prompt_truncate_len" not in body
        assert "word word" not in str(messages)
