"""Lists of models in the format of each client."""

from __future__ import annotations

import pytest

from gateway.dialects.model_lists import model_form, model_list

ENTRY = {"id": "m", "object": "model", "created": 0, "owned_by": "up", "context_window": 8192, "available": True}
BARE = {"id": "n", "object": "model", "created": 0, "owned_by": "up", "available": True}


@pytest.mark.parametrize("agent", [b"OpenAI/Python 3.3.0", b"curl/8", b"groq/1.0"])
def test_other_clients_get_openais_form(agent: bytes) -> None:
    headers = [(b"user-agent", agent)]
    assert model_list(headers, [ENTRY, BARE]) == {"object": "list", "data": [ENTRY, BARE]}
    assert model_form(headers)(ENTRY) == model_form([])(ENTRY) == ENTRY


@pytest.mark.parametrize("agent", [b"mistral-client-python/3.7.0", b"mistral-client-typescript/2.1.0"])
def test_mistrals_client_gets_type_and_capabilities(agent: bytes) -> None:
    listed = model_list([(b"user-agent", agent)], [ENTRY, BARE])
    required = {"type": "base", "capabilities": {"completion_chat": True}}
    assert listed == {"object": "list", "data": [{**ENTRY, **required, "max_context_length": 8192}, {**BARE, **required}]}


def test_coheres_client_gets_its_own_form() -> None:
    headers = [(b"user-agent", b"cohere/7.3.1"), (b"x-fern-sdk-name", b"cohere")]
    assert model_list(headers, [ENTRY, BARE]) == {
        "models": [
            {"name": "m", "endpoints": ["chat"], "finetuned": False, "context_length": 8192},
            {"name": "n", "endpoints": ["chat"], "finetuned": False},
        ]
    }
    assert model_form(headers)(BARE)["name"] == "n"
