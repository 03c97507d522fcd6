"""Calls of the Responses API with the openai package: create, stream, parse, tools, images, errors and aborts.

Prints one JSON object. The environment has the address of the gateway (BASE_URL) and a key (KEY). The upstream's answer
depends on the words of the request: see tests/clients/test_responses_clients.py.
"""

import asyncio
import json
import os

import openai
from pydantic import BaseModel

ADDRESS = {
    "base_url": os.environ["BASE_URL"], "api_key": os.environ["KEY"], "max_retries": 0, "timeout": 60, "_strict_response_validation": True,
}  # fmt: skip
TOOL = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    """The answer of a parsed call."""

    city: str


def summary(response):
    """Return the parts of a response that an application reads."""
    return {
        "text": response.output_text,
        "status": response.status,
        "kinds": [item.type for item in response.output],
        "usage": [
            response.usage.input_tokens,
            response.usage.input_tokens_details.cached_tokens,
            response.usage.output_tokens,
            response.usage.output_tokens_details.reasoning_tokens,
        ],
    }


def turn(client):
    """Let the model call a tool, and send its result with all items back."""
    first = client.responses.create(model="m", input="call the tool", tools=[TOOL])
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    items = [{"role": "user", "content": "call the tool"}, *first.output, result]
    second = client.responses.create(model="m", input=items, tools=[TOOL])
    return {
        "call": [call.name, json.loads(call.arguments)],
        "kinds": [item.type for item in first.output],
        "text": second.output_text,
    }


def streamed(client, text, **more):
    """Read a stream with the helper that assembles it."""
    with client.responses.stream(model="m", input=text, **more) as stream:
        events = [event.type for event in stream]
        return {"events": events, **summary(stream.get_final_response())}


def parsed(client):
    """Parse a JSON answer, as a whole and as a stream."""
    whole = client.responses.parse(model="m", input="say json", text_format=City).output_parsed
    with client.responses.stream(model="m", input="say json", text_format=City) as stream:
        return [whole.city, stream.get_final_response().output_parsed.city]


def errors(client):
    """Return the classes and parameters of errors."""
    found = []
    for given in (
        {"model": "m", "input": []},
        {"model": "unknown", "input": "x"},
        {"model": "m", "input": "x", "tools": [{"type": "web_search"}]},
        {"model": "m", "input": "x", "previous_response_id": "resp_1"},
    ):
        try:
            client.responses.create(**given)
        except openai.APIStatusError as error:
            found.append([type(error).__name__, error.param])
    return found


def broken(client):
    """Return the end of a broken stream."""
    events = list(client.responses.create(model="m", input="break off", stream=True))
    return [events[-1].type, events[-1].response.status, events[-1].response.output_text]


def stored(client):
    """Store, continue, read, list and delete responses."""
    first = client.responses.create(model="m", input="call the tool", tools=[TOOL], store=True)
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    with client.responses.stream(
        model="m", input=[result], tools=[TOOL], previous_response_id=first.id, store=True
    ) as stream:
        for _ in stream:
            pass
        second = stream.get_final_response()
    third = client.responses.parse(model="m", input="say json", text_format=City, previous_response_id=second.id, store=True)
    read = client.responses.retrieve(second.id)
    items = list(client.responses.input_items.list(third.id, limit=2, order="asc"))
    client.responses.delete(third.id)
    try:
        client.responses.retrieve(third.id)
    except openai.NotFoundError as error:
        missing = error.code
    return {
        "text": second.output_text,
        "read": [summary(each) | {"ids": [each.id, *(item.id for item in each.output)]} for each in (read, second)],
        "linked": [second.previous_response_id == first.id, third.previous_response_id == second.id],
        "parsed": third.output_parsed.city,
        "items": [item.type for item in items],
        "missing": missing,
    }


def image(client):
    """Send an image."""
    part = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
    content = [{"type": "input_text", "text": "look"}, part]
    return client.responses.create(model="m", input=[{"role": "user", "content": content}]).output_text


async def abort():
    """Close a stream after its first text. Return the number of events that were read and the text of the next call."""
    async with openai.AsyncOpenAI(**ADDRESS) as client:
        stream = await client.responses.create(model="m", input="endless", stream=True)
        count = 0
        async for event in stream:
            count += 1
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        again = await client.responses.create(model="m", input="hello")
        return [count, again.output_text]


def main():
    """Make the calls."""
    with openai.OpenAI(**ADDRESS) as client:
        result = {
            "version": openai.__version__,
            "json": summary(
                client.responses.create(model="m", input="hello", instructions="Be kind", reasoning={"effort": "low"})
            ),
            "stream": streamed(client, "hello"),
            "stream_tools": streamed(client, "call the tool", tools=[TOOL]),
            "turn": turn(client),
            "parsed": parsed(client),
            "errors": errors(client),
            "broken": broken(client),
            "stored": stored(client),
            "image": image(client),
            "abort": asyncio.run(abort()),
        }
    print(json.dumps(result))


main()
