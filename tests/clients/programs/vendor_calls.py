"""One package of a vendor (PACKAGE): an answer, a stream, a tool call, models and an error. Prints a list of JSON objects.

Only the address differs from a program that uses the vendor: ORIGIN with each of the paths in UNDER, which are separated by spaces.
"""

import importlib
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any

ORIGIN, KEY, MODEL, PACKAGE = (os.environ[name] for name in ("ORIGIN", "API_KEY", "MODEL", "PACKAGE"))
HI = [{"role": "user", "content": "Hi"}]
TOOL_QUESTION = [{"role": "user", "content": "use the tool"}]
WITHOUT_MODELS = ("fireworks",)
"""Packages that list only the models of one account, at another path."""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}}


def with_openai(client: Any, errors: Any, model: str = MODEL, unknown: Any = None) -> dict[str, Any]:
    """Call a client that was generated like OpenAI's. `unknown` is a client of an unknown model, if the client names the model."""
    create = client.chat.completions.create
    answer = create(model=model, messages=HI)
    streamed = "".join(
        choice.delta.content or "" for chunk in create(model=model, messages=HI, stream=True) for choice in chunk.choices or ()
    )
    call = create(model=model, messages=TOOL_QUESTION, tools=[TOOL]).choices[0].message.tool_calls[0].function
    models = [one.id for one in client.models.list().data] if unknown is None and PACKAGE not in WITHOUT_MODELS else None
    try:
        (unknown or client).chat.completions.create(model="no-such-model", messages=HI)
        refused = None
    except errors.NotFoundError as error:
        refused = type(error).__name__
    return {
        "text": answer.choices[0].message.content, "streamed": streamed, "tool": [call.name, json.loads(call.arguments)],
        "models": models, "refused": refused,
    }  # fmt: skip


def with_package(name: str, client_class: str, under: str) -> dict[str, Any]:
    """Call a package whose client has the form of OpenAI's."""
    package = importlib.import_module(name)
    return with_openai(getattr(package, client_class)(base_url=ORIGIN + under, api_key=KEY, max_retries=0), package)


def with_azure(under: str) -> dict[str, Any]:
    """Call the client for Azure, whose paths name a deployment."""
    import openai

    options = {"azure_endpoint": ORIGIN + under, "api_key": KEY, "api_version": "2024-10-21", "max_retries": 0}
    named = openai.AzureOpenAI(azure_deployment=MODEL, **options)
    return with_openai(named, openai, unknown=openai.AzureOpenAI(**options))


def with_mistral(under: str) -> dict[str, Any]:
    """Call mistralai."""
    from mistralai.client import Mistral
    from mistralai.client.errors import SDKError

    client = Mistral(api_key=KEY, server_url=ORIGIN + under)
    with client.chat.stream(model=MODEL, messages=HI) as events:
        streamed = "".join(choice.delta.content or "" for event in events for choice in event.data.choices)
    call = client.chat.complete(model=MODEL, messages=TOOL_QUESTION, tools=[TOOL]).choices[0].message.tool_calls[0].function
    try:
        client.chat.complete(model="no-such-model", messages=HI)
        refused = None
    except SDKError as error:
        refused = f"{type(error).__name__} {error.status_code}"
    return {
        "text": client.chat.complete(model=MODEL, messages=HI).choices[0].message.content, "streamed": streamed,
        "tool": [call.name, json.loads(call.arguments) if isinstance(call.arguments, str) else call.arguments],
        "models": [one.id for one in client.models.list().data], "refused": refused,
    }  # fmt: skip


def with_anthropic(under: str) -> dict[str, Any]:
    """Call anthropic."""
    import anthropic

    client = anthropic.Anthropic(base_url=ORIGIN + under, api_key=KEY, max_retries=0)
    ask = {"model": MODEL, "max_tokens": 50}
    with client.messages.stream(messages=HI, **ask) as stream:
        streamed = "".join(stream.text_stream)
    tool = {"name": "get_weather", "input_schema": SCHEMA}
    answer = client.messages.create(messages=TOOL_QUESTION, tools=[tool], **ask)
    call = next(block for block in answer.content if block.type == "tool_use")
    try:
        client.messages.create(model="no-such-model", max_tokens=50, messages=HI)
        refused = None
    except anthropic.NotFoundError as error:
        refused = type(error).__name__
    return {
        "text": client.messages.create(messages=HI, **ask).content[0].text, "streamed": streamed, "tool": [call.name, call.input],
        "models": [one.id for one in client.models.list()], "refused": refused,
    }  # fmt: skip


def with_friendli(under: str) -> dict[str, Any]:
    """Call friendli."""
    from friendli import SyncFriendli

    with SyncFriendli(token=KEY, server_url=ORIGIN + under) as client:
        chat = client.serverless.chat
        with chat.complete(model=MODEL, messages=HI, stream=True) as events:
            streamed = "".join(choice.delta.content or "" for event in events for choice in event.data.choices)
        call = chat.complete(model=MODEL, messages=TOOL_QUESTION, tools=[TOOL]).choices[0].message.tool_calls[0].function
        try:
            chat.complete(model="no-such-model", messages=HI)
            refused = None
        except Exception as error:
            refused = f"{type(error).__name__} {getattr(error, 'status_code', None)}"
        text = chat.complete(model=MODEL, messages=HI).choices[0].message.content
    return {"text": text, "streamed": streamed, "tool": [call.name, json.loads(call.arguments)], "models": None, "refused": refused}


def with_cohere(under: str) -> dict[str, Any]:
    """Call cohere's client of version 2."""
    import cohere
    from cohere.errors import NotFoundError

    client = cohere.ClientV2(api_key=KEY, base_url=ORIGIN + under)
    streamed = "".join(
        event.delta.message.content.text or "" for event in client.chat_stream(model=MODEL, messages=HI) if event.type == "content-delta"
    )
    call = client.chat(model=MODEL, messages=TOOL_QUESTION, tools=[TOOL]).message.tool_calls[0].function
    try:
        client.chat(model="no-such-model", messages=HI)
        refused = None
    except NotFoundError as error:
        refused = type(error).__name__
    return {
        "text": client.chat(model=MODEL, messages=HI).message.content[0].text, "streamed": streamed,
        "tool": [call.name, json.loads(call.arguments)], "models": [one.name for one in client.models.list().models], "refused": refused,
    }  # fmt: skip


CALLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openai": partial(with_package, "openai", "OpenAI"),
    "azure": with_azure,
    "groq": partial(with_package, "groq", "Groq"),
    "cerebras": partial(with_package, "cerebras.cloud.sdk", "Cerebras"),
    "fireworks": partial(with_package, "fireworks", "Fireworks"),
    "friendli": with_friendli,
    "mistral": with_mistral,
    "anthropic": with_anthropic,
    "cohere": with_cohere,
}
print(json.dumps([CALLS[PACKAGE](under) for under in os.environ["UNDER"].split(" ")]))
