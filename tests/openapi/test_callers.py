"""Each API of the callers has an operation; an API that is not described in detail has a general operation."""

from __future__ import annotations

import httpx
import pytest

from gateway.dialects.dialect import PlainDialect
from gateway.openapi.callers import REQUESTS, api_of, operations, schemas, split
from gateway.openapi.document import document_json
from tests.flows.live import live
from tests.server.test_endpoints import YAML
from tests.support.plain_http import WITHOUT_AUTHORITIES


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/v1/chat/completions", ("/v1", "/chat/completions")),
        ("/chat/completions", ("", "/chat/completions")),
        ("/anthropic/v1/messages", ("/anthropic/v1", "/messages")),
        ("/anthropic/messages", ("/anthropic", "/messages")),
        ("/own/path", ("", "/own/path")),
    ],
)
def test_path_is_split_after_its_known_prefix(path: str, parts: tuple[str, str]) -> None:
    assert split(path) == parts


def test_new_api_is_described_without_an_entry() -> None:
    new = PlainDialect("embeddings", ("/v1/new", "/new"), has_messages=False, can_continue=False)
    found = operations([new])
    assert found.prefixes["/new"] == ["/v1", ""]
    body = found.operations["/new"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/JsonRequest"}
    assert "/new/explain" in found.operations


def test_new_path_of_chat_is_a_chat_completion() -> None:
    new = PlainDialect("chat", ("/new",), has_messages=True, can_continue=True)
    assert api_of(new).name == "ChatCompletion"


def test_every_request_is_a_component() -> None:
    assert set(schemas()) == {f"{name}Request" for name in REQUESTS}


async def test_callers_read_the_document_only_if_the_configuration_shows_it() -> None:
    answers = []
    for setting in ("", "callers: { openapi: true }\n"):
        async with live(YAML + setting) as gateway, httpx.AsyncClient(verify=WITHOUT_AUTHORITIES) as client:
            answers.append(await client.get(f"{gateway.url}/openapi.json"))
    assert [answer.status_code for answer in answers] == [404, 200]
    assert "callers.openapi" in answers[0].json()["error"]["message"]
    assert answers[1].content == document_json("callers")
    assert b"/admin/" not in answers[1].content
