"""anthropic: answers, streams, tools, images, thinking, token counts, models, errors and an abort. Prints one JSON object."""

import json
import os

import anthropic

MESSAGES = [{"role": "user", "content": "hello #chunks=4#"}]
TOOL = {"name": "get_weather", "description": "Weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
ADDRESS, KEY = os.environ["ORIGIN"] + os.environ.get("UNDER", ""), os.environ["API_KEY"]


def client_of(**more):
    return anthropic.Anthropic(base_url=ADDRESS, max_retries=0, timeout=30, _strict_response_validation=True, **more)


client = client_of(api_key=KEY)
result = {}


def ask(text, **more):
    """Return the arguments of a call."""
    return {"model": "chat", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}


def failure(call):
    """Return the class and type of an error, and whether it has a request id, or None if the call succeeds."""
    try:
        call()
    except anthropic.APIStatusError as error:
        body = error.body["error"] if isinstance(error.body, dict) else {}
        return [type(error).__name__, body.get("type"), error.request_id is not None]
    return None


answer = client.messages.create(model="chat", max_tokens=100, messages=MESSAGES, system="Be brief.")
result["answer"] = [type(answer).__name__, answer.content[0].text, answer.stop_reason, answer.usage.output_tokens, answer._request_id[:4]]

with client.messages.stream(model="chat", max_tokens=100, messages=MESSAGES) as stream:
    pieces = list(stream.text_stream)
    final = stream.get_final_message()
result["stream"] = [len(pieces), final.content[0].text, final.stop_reason, final.usage.input_tokens, final.usage.output_tokens]
result["events"] = [event.type for event in client.messages.create(model="chat", max_tokens=100, messages=MESSAGES, stream=True)]

result["stopped"] = client.messages.create(model="chat", max_tokens=100, messages=MESSAGES, stop_sequences=["w2"]).stop_sequence
result["cut"] = client.messages.create(model="chat", max_tokens=2, messages=MESSAGES).stop_reason

for name, streams in (("tool", False), ("streamed_tool", True)):
    asked = ask("use the tool", tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    if streams:
        with client.messages.stream(**asked) as stream:
            used = stream.get_final_message()
    else:
        used = client.messages.create(**asked)
    blocks = [block.model_dump() for block in used.content]
    result[name] = [used.stop_reason, *([block["type"], block.get("name"), block.get("input")] for block in blocks)]
result["after_tool"] = client.messages.create(**{
    **asked,
    "messages": [
        *asked["messages"],
        {"role": "assistant", "content": used.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": used.content[-1].id, "content": [{"type": "text", "text": "sunny"}, IMAGE]},
                {"type": "text", "text": "Thanks."},
            ],
        },
    ],
    "tool_choice": {"type": "auto"},
}).content[0].type
result["image"] = client.messages.create(**ask([{"type": "text", "text": "what is this?"}, IMAGE])).content[0].text
with client.messages.stream(**ask("think first", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})) as stream:
    thought = stream.get_final_message()
result["thinking"] = [thought.content[0].type, thought.content[0].thinking, thought.content[1].text]
result["usage"] = [thought.usage.input_tokens, thought.usage.cache_read_input_tokens, thought.usage.output_tokens]

result["count"] = client.messages.count_tokens(model="chat", messages=MESSAGES).input_tokens
result["models"] = [model.id for model in client.models.list(limit=1)]
result["model"] = client.models.retrieve("chat").type
result["beta"] = client.beta.messages.create(**ask("hello #chunks=2#"), betas=["context-1m-2025-08-07"]).content[0].text
result["bearer"] = client_of(api_key=None, auth_token=KEY).messages.create(**ask("hello")).role

result["unknown_key"] = failure(lambda: client_of(api_key="sk-other").messages.create(**ask("hello")))
result["unknown_model"] = failure(lambda: client.messages.create(**{**ask("hello"), "model": "none"}))
result["bad_value"] = failure(lambda: client.messages.create(**{**ask("hello"), "max_tokens": -1}))
result["rate_limit"] = failure(lambda: client.messages.create(**ask("fail with 429")))
result["overloaded"] = failure(lambda: client.messages.create(**ask("fail with 503")))
result["broken"] = failure(lambda: list(client.messages.create(**ask("break the stream"), stream=True)))

with client.messages.create(**ask("hello #chunks=5000# #delay=20ms#"), stream=True) as long:
    result["before_abort"] = next(iter(long)).type
print(json.dumps(result))
