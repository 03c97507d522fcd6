"""Hooks over HTTP: the texts that reach the upstream, the caller, the receipt and the log, in every API."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.faults.behaviours import chat_chunk, sse
from tests.faults.upstream_server import FIN, FaultUpstream
from tests.flows.conftest import CREDENTIAL, RECEIPT, chat, one_model, post_as, receipt_of, serving
from tests.flows.live import live
from tests.hooks.echo import echo
from tests.support.apis import ALL, CHAT_API, Api

EMAIL, IBAN, CARD, PHONE = "ada@example.org", "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111", "+49 30 901820"
KEY = "sk-proj-abcdefghijklmnopqrstuv"
SECRETS = (EMAIL, IBAN, CARD, PHONE, KEY)
TEXT = f"Mail {EMAIL}, pay {IBAN} or {CARD}, call {PHONE}, log in with {KEY}. Again {EMAIL}."
RESTORED = f"You wrote {EMAIL}, {IBAN}, {CARD}, {PHONE}, {KEY}."
MASK = "hooks: [{ mask: {} }]\n"
KINDS = {"openai-compatible": "translated", "vllm": "native"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def sent(up: FaultUpstream) -> str:
    """Return the bodies of all requests that the upstream got, with escapes resolved."""
    return "\n".join(json.dumps(json.loads(request.body), ensure_ascii=False) for request in up.requests)


def history() -> list[dict[str, Any]]:
    """Return a conversation with a value in each kind of message."""
    call = {"id": "t0", "type": "function", "function": {"name": "f", "arguments": json.dumps({"mail": EMAIL, "card": 4111111111111111})}}
    return [
        {"role": "system", "content": f"Never mail {EMAIL}."},
        {"role": "user", "content": [{"type": "text", "text": f"Call {PHONE}."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t0", "content": f"{IBAN} is paid."},
        {"role": "user", "content": TEXT},
    ]


async def test_values_are_masked_for_the_upstream_and_restored_for_the_caller_in_every_api(
    up: FaultUpstream, client: httpx.AsyncClient
) -> None:
    up.on(lambda request: True, echo())
    for kind in KINDS:
        async with serving(up, MASK, kind) as gateway:
            for api in ALL:
                for stream in (False, True):
                    answer = await post_as(api, client, gateway, text=TEXT, stream=stream, user=EMAIL, headers=RECEIPT)
                    told = api.read(answer)
                    assert (answer.status_code, told.text) == (200, RESTORED), (kind, api.name, stream, answer.text)
                    for _, _, arguments in told.calls:
                        assert arguments["to"] == RESTORED, (kind, api.name, stream)
                    assert told.receipt is not None
                    changes = {each["param"] for each in told.receipt["adjustments"] if each["action"] == "replace"}
                    assert len(changes) >= 2, (kind, api.name, stream, told.receipt)
                    assert not [value for value in SECRETS if value in json.dumps(told.receipt)]
                    assert "replace" in answer.headers["x-gateway-adjusted"]
    assert not [value for value in SECRETS if value in sent(up)]


async def test_every_part_of_a_conversation_is_masked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    conversations: list[Api] = [api for api in ALL if api.name != "completions"]
    for kind in KINDS:
        async with serving(up, MASK, kind) as gateway:
            for api in conversations:
                body = api.body({"model": "m", "messages": history(), "tools": TOOLS, "max_tokens": 99})
                answer = await client.post(gateway.url + api.path, json=body)
                assert answer.status_code == 200, (kind, api.name, answer.text)
    assert not [value for value in (*SECRETS, "4111111111111111") if value in sent(up)]


async def test_masks_of_several_choices_are_restored(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo(size=2))
    for kind in ("openai", "anthropic"):  # the second has one request for each choice
        async with serving(up, MASK, kind) as gateway:
            answer = await client.post(gateway.base_url + "/chat/completions", json=chat(text=TEXT, n=2, stream=True))
            texts = ["", ""]
            for event in answer.text.split("\n\n"):
                if event.startswith("data: {"):
                    for choice in json.loads(event[6:])["choices"]:
                        texts[choice["index"]] += choice["delta"].get("content") or ""
            assert texts == [RESTORED, RESTORED], (kind, answer.text)
            whole = await client.post(gateway.base_url + "/chat/completions", json=chat(text=TEXT, n=2))
            assert [choice["message"]["content"] for choice in whole.json()["choices"]] == [RESTORED, RESTORED]


async def test_embeddings_rerank_and_token_counts_are_masked(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, MASK, "vllm") as gateway:
        vectors = await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": [TEXT]})
        assert vectors.status_code == 200, vectors.text
        body = {"model": "m", "query": EMAIL, "documents": [TEXT, f"call {PHONE}"], "return_documents": True}
        ranked = await client.post(gateway.base_url + "/rerank", json=body)
        assert ranked.status_code == 200, ranked.text
        assert ranked.json()["results"][0]["document"]["text"] == TEXT
        tokens = await client.post(gateway.base_url + "/tokenize", json={"model": "m", "prompt": TEXT})
        assert tokens.status_code == 200, tokens.text
        count = await client.post(gateway.base_url + "/messages/count_tokens", json=chat(text=TEXT))
        assert count.status_code == 200, count.text
    assert len(up.requests) >= 2
    assert not [value for value in SECRETS if value in sent(up)]


async def test_a_stored_conversation_is_masked_again(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    for kind in KINDS:
        async with serving(up, MASK, kind) as gateway:
            first = await client.post(gateway.base_url + "/responses", json={"model": "m", "input": TEXT, "store": True})
            assert first.status_code == 200, first.text
            body = {"model": "m", "input": "Again.", "previous_response_id": first.json()["id"], "store": True}
            second = await client.post(gateway.base_url + "/responses", json=body)
            assert second.status_code == 200, second.text
            assert EMAIL in second.json()["output"][0]["content"][0]["text"]
    assert not [value for value in SECRETS if value in sent(up)]


async def test_token_ids_are_refused_because_no_hook_can_read_them(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with serving(up, MASK) as gateway:
        answer = await client.post(gateway.base_url + "/embeddings", json={"model": "m", "input": [[1, 2], [3]]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert up.requests == []


async def test_values_do_not_leave_in_mirrored_calls(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: {{ targets: [a/x, b/y], mirror: b/z }} }}\n{MASK}"
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(text=TEXT))
        assert answer.json()["choices"][0]["message"]["content"] == RESTORED
        await gateway.records(2)
    assert len(up.requests) == 2
    assert not [value for value in SECRETS if value in sent(up)]


async def test_values_are_in_no_log_line(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    async with serving(up, MASK) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json=chat(text=TEXT), headers=RECEIPT)
        assert receipt_of(answer)["adjustments"][0]["param"] == "messages[0].content"
        (record,) = await gateway.records(1)
    assert not [value for value in SECRETS if value in json.dumps(record)]


async def test_explain_shows_the_masked_request(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    async with live(one_model(up, MASK), environ={"UP_KEY": CREDENTIAL}) as gateway:
        plan = await client.post(gateway.base_url + "/explain", json=chat(text=TEXT))
    assert "[EMAIL_1]" in plan.json()["targets"][0]["request"]["body"]["messages"][0]["content"]


async def test_a_mask_that_a_broken_stream_cuts_is_restored_by_the_continuation(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    for first in (("to [EMA",), ("", "to [EM", "A"), ("[", "EMA")):
        provider = f'{{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
        yaml = f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: {{ targets: [a/x, b/y], continue_on_cut: true }} }}\n{MASK}"
        async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
            up.once(sse(chat_chunk("say ", role="assistant"), *map(chat_chunk, first), ending=FIN))
            up.once(sse(chat_chunk("IL_1]."), chat_chunk(finish="stop"), b"[DONE]"))
            answer = await post_as(CHAT_API, client, gateway, text=EMAIL, stream=True)
            told = CHAT_API.read(answer)
            assert (told.text, told.stop) == (f"say {''.join(first).replace('[EMA', EMAIL)}.", "stop"), answer.text
    assert EMAIL not in sent(up)
    assert up.requests[-1].json["messages"][-1] == {"role": "assistant", "content": "say [EMA"}


async def test_a_target_that_breaks_before_a_text_is_sent_is_followed_by_the_next(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    provider = f'{{ type: vllm, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    yaml = f"providers: {{ a: {provider}, b: {provider} }}\nmodels: {{ m: {{ targets: [a/x, b/y], continue_on_cut: true }} }}\n{MASK}"
    async with live(yaml, environ={"UP_KEY": CREDENTIAL}) as gateway:
        up.once(sse(chat_chunk("[EMA", role="assistant"), ending=FIN))
        up.once(sse(chat_chunk("[EMAIL_1]", role="assistant"), chat_chunk(finish="stop"), b"[DONE]"))
        answer = await post_as(CHAT_API, client, gateway, text=EMAIL, stream=True)
        assert CHAT_API.read(answer).text == EMAIL
        assert answer.headers["x-gateway-target"] == "b/y"


async def test_a_cached_answer_is_restored_with_the_values_of_the_call_that_gets_it(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    up.on(lambda request: True, echo())
    provider = f'{{ type: openai-compatible, base_url: "{up.base_url}", api_key: "${{UP_KEY}}" }}'
    cache = "{ targets: up/mock, cache: { ttl: 60s, scope: global } }"
    async with live(f"providers: {{ up: {provider} }}\nmodels: {{ m: {cache} }}\n{MASK}", environ={"UP_KEY": CREDENTIAL}) as gateway:
        for stream in (False, True):
            for email in ("a@example.org", "b@example.org"):
                answer = await post_as(CHAT_API, client, gateway, text=email, stream=stream)
                assert CHAT_API.read(answer).text == f"You wrote {email}."
    assert len(up.requests) == 2, "the answers of the second address are cached"


async def test_names_and_values_of_arguments_are_masked_apart(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    given = {"first name": "Ann", "work mail": EMAIL, "email": EMAIL, "bob@example.org": "one", "eve@example.org": "two"}
    call = {"id": "t0", "type": "function", "function": {"name": "f", "arguments": json.dumps(given)}}
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t0", "content": "done"},
    ]
    async with serving(up, MASK) as gateway:
        answer = await client.post(gateway.base_url + "/chat/completions", json={"model": "m", "messages": messages, "tools": TOOLS})
    assert answer.status_code == 200
    (request,) = up.requests
    arguments = json.loads(request.json["messages"][1]["tool_calls"][0]["function"]["arguments"])
    first, second, third = arguments["work mail"], *[name for name in arguments if arguments[name] in ("one", "two")]
    assert len({first, second, third}) == 3
    assert arguments == {"first name": "Ann", "work mail": first, "email": first, second: "one", third: "two"}
    assert "example.org" not in sent(up)


async def test_a_text_that_begins_like_media_is_read(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    texts = (f"data:;base64, mail {EMAIL}", "-" * 1024 + f"\n{EMAIL}", f"data:{EMAIL};base64,AAAA")
    async with serving(up, MASK) as gateway:
        for text in texts:
            assert (await client.post(gateway.base_url + "/chat/completions", json=chat(text=text))).status_code == 200
    assert len(up.requests) == len(texts)
    assert EMAIL not in sent(up)


async def test_members_of_one_name_do_not_bypass_a_hook(up: FaultUpstream, client: httpx.AsyncClient) -> None:
    message = f'{{"role": "user", "content": "{EMAIL}", "content": "hi"}}'
    call = {"id": "t0", "type": "function", "function": {"name": "f", "arguments": f'{{"to": "{EMAIL}", "to": "n"}}'}}
    turns = [chat()["messages"][0], {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "t0", "content": "x"}]
    async with serving(up, MASK) as gateway:
        refused = await client.post(gateway.base_url + "/chat/completions", content=f'{{"model": "m", "messages": [{message}]}}')
        answer = await client.post(gateway.base_url + "/chat/completions", json={"model": "m", "messages": turns, "tools": TOOLS})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    assert answer.status_code == 200
    assert len(up.requests) == 1
    assert EMAIL not in up.requests[0].body.decode()
