"""Every kind of call over each API with the packages openai, anthropic and cohere. Prints the result of each cell of the table.

Variables: ORIGIN, KEY, MODEL, EXPECTED (a word of the answer), IMAGES (1 if the model reads images) and ANY_NAME (1 if
it answers to every name).
"""

import json
import os
import time
from types import MappingProxyType

import anthropic
import cohere
import openai

ORIGIN, KEY, MODEL = (os.environ[name] for name in ("ORIGIN", "KEY", "MODEL"))
EXPECTED, IMAGES, ANY_NAME = (os.environ[name] for name in ("EXPECTED", "IMAGES", "ANY_NAME"))
PROMPT = "What is the capital of France?"
ENDLESS = "Tell a very long story without end."
LIMIT = 200
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
CITY = {"city": {"type": "string", "maxLength": 40}}
SCHEMA = {"type": "object", "properties": CITY, "required": ["city"], "additionalProperties": False}
TOOL = {"name": "get_weather", "description": "The weather in a city"}
common = {"api_key": KEY, "max_retries": 0, "timeout": 120, "_strict_response_validation": True}
openai_client = openai.OpenAI(base_url=f"{ORIGIN}/v1", **common)
anthropic_client = anthropic.Anthropic(base_url=ORIGIN, **common)
cohere_client = cohere.ClientV2(base_url=ORIGIN, api_key=KEY, timeout=120)


class Chat:
    """Makes calls over chat completions."""

    errors = openai
    tools = MappingProxyType(
        {"tools": [{"type": "function", "function": {**TOOL, "parameters": SCHEMA}}], "tool_choice": "required"}
    )
    image = MappingProxyType({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}})

    def request(self, content, model=MODEL, limit=LIMIT, **more):
        if type(content) is list:
            content = [{"type": "text", "text": "What is this?"}, *content]
        messages = [{"role": "user", "content": content}]
        return {"model": model, "messages": messages, "max_completion_tokens": limit, **more}

    def create(self, *given, **more):
        answer = openai_client.chat.completions.create(**self.request(*given, **more))
        return self.read(answer)

    def read(self, answer):
        message = answer.choices[0].message
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or ()]
        return message.content or "", calls, answer.usage.prompt_tokens, answer.usage.completion_tokens

    def stream(self, *given, **more):
        request = self.request(*given, **more)
        with openai_client.chat.completions.stream(**request, stream_options={"include_usage": True}) as stream:
            pieces = sum(event.type == "content.delta" for event in stream)
            return pieces, self.read(stream.get_final_completion())

    def first_of(self, text):
        with openai_client.chat.completions.create(**self.request(text), stream=True) as stream:
            deltas = (chunk.choices[0].delta for chunk in stream if chunk.choices)
            return next(delta.content for delta in deltas if delta.content)


class Responses(Chat):
    """Makes calls over the Responses API."""

    tools = MappingProxyType(
        {"tools": [{"type": "function", **TOOL, "parameters": SCHEMA, "strict": True}], "tool_choice": "required"}
    )
    image = MappingProxyType(
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    )

    def request(self, content, model=MODEL, limit=LIMIT, **more):
        if type(content) is list:
            content = [{"role": "user", "content": [{"type": "input_text", "text": "What is this?"}, *content]}]
        return {"model": model, "input": content, "max_output_tokens": limit, **more}

    def create(self, *given, **more):
        return self.read(openai_client.responses.create(**self.request(*given, **more)))

    def read(self, answer):
        calls = [[item.name, json.loads(item.arguments)] for item in answer.output if item.type == "function_call"]
        return answer.output_text, calls, answer.usage.input_tokens, answer.usage.output_tokens

    def stream(self, *given, **more):
        with openai_client.responses.stream(**self.request(*given, **more)) as stream:
            pieces = sum(event.type == "response.output_text.delta" for event in stream)
            return pieces, self.read(stream.get_final_response())

    def first_of(self, text):
        with openai_client.responses.create(**self.request(text), stream=True) as stream:
            return next(event.delta for event in stream if event.type == "response.output_text.delta")


class Messages(Chat):
    """Makes calls over Anthropic's Messages API."""

    errors = anthropic
    tools = MappingProxyType({"tools": [{**TOOL, "input_schema": SCHEMA}], "tool_choice": {"type": "any"}})
    image = MappingProxyType(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    )

    def request(self, content, model=MODEL, limit=LIMIT, **more):
        if type(content) is list:
            content = [{"type": "text", "text": "What is this?"}, *content]
        return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": limit, **more}

    def create(self, *given, **more):
        return self.read(anthropic_client.messages.create(**self.request(*given, **more)))

    def read(self, answer):
        text = "".join(block.text for block in answer.content if block.type == "text")
        calls = [[block.name, block.input] for block in answer.content if block.type == "tool_use"]
        return text, calls, answer.usage.input_tokens, answer.usage.output_tokens

    def stream(self, *given, **more):
        with anthropic_client.messages.stream(**self.request(*given, **more)) as stream:
            pieces = sum(event.type == "text" for event in stream)
            return pieces, self.read(stream.get_final_message())

    def first_of(self, text):
        with anthropic_client.messages.create(**self.request(text), stream=True) as stream:
            deltas = (event.delta for event in stream if event.type == "content_block_delta")
            return next(delta.text for delta in deltas if delta.type == "text_delta")


class Cohere(Chat):
    """Makes calls over Cohere's chat API."""

    errors = cohere
    tools = MappingProxyType({"tools": Chat.tools["tools"], "tool_choice": "REQUIRED"})

    def request(self, content, model=MODEL, limit=LIMIT, extra_body=None, **more):
        given = super().request(content, model, limit, **more, **(extra_body or {}))
        given["max_tokens"] = given.pop("max_completion_tokens")
        return {**given, "request_options": {"max_retries": 0}}

    def create(self, *given, **more):
        answer = cohere_client.chat(**self.request(*given, **more))
        text = "".join(part.text for part in answer.message.content or () if part.type == "text")
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in answer.message.tool_calls or ()]
        return text, calls, answer.usage.tokens.input_tokens, answer.usage.tokens.output_tokens

    def stream(self, *given, **more):
        pieces, calls, tokens = [], [], None
        for event in cohere_client.chat_stream(**self.request(*given, **more)):
            if event.type == "content-delta":
                pieces += [event.delta.message.content.text] if event.delta.message.content.text else []
            elif event.type == "tool-call-start":
                calls.append([event.delta.message.tool_calls.function.name, ""])
            elif event.type == "tool-call-delta":
                calls[-1][1] += event.delta.message.tool_calls.function.arguments
            elif event.type == "message-end":
                tokens = event.delta.usage.tokens
        whole = [[name, json.loads(arguments)] for name, arguments in calls]
        return len(pieces), ("".join(pieces), whole, tokens.input_tokens, tokens.output_tokens)

    def first_of(self, text):
        deltas = (event.delta for event in cohere_client.chat_stream(**self.request(text)) if event.type == "content-delta")
        return next(delta.message.content.text for delta in deltas if delta.message.content.text)


def request_id_of(error):
    """Return the request id of an error. Cohere's is in the body."""
    return error.body["id"] if isinstance(error, cohere.core.ApiError) else error.request_id


def failure(expected, call, *given, **more):
    """Return the error of a call."""
    try:
        call(*given, **more)
    except expected as error:
        return error
    raise AssertionError(f"no {expected.__name__}")


def check_json(api):
    """Read a whole answer and its usage."""
    text, calls, asked, said = api.create(PROMPT)
    assert EXPECTED in text, text
    assert not calls
    assert asked > 0 < said, (asked, said)


def check_stream(api):
    """Read the same answer in pieces, with the same usage."""
    fixed = {"extra_body": {"temperature": 0}}  # the method `stream` of anthropic has no argument for it
    pieces, streamed = api.stream(PROMPT, **fixed)
    assert pieces > 3, pieces
    assert streamed == api.create(PROMPT, **fixed)


def check_tools(api):
    """Force a call of a tool, as a whole and as a stream."""
    question = "What is the weather in 'Paris'?"
    for _, calls, _, _ in (api.create(question, **api.tools), api.stream(question, **api.tools)[1]):
        (name, arguments), *others = calls
        assert name == "get_weather"
        assert type(arguments["city"]) is str
        assert set(arguments) == {"city"}
        assert not others


def check_images(api):
    """Send an image. A model that reads only text answers with an error that names the image."""
    if IMAGES:
        assert EXPECTED in api.create([dict(api.image)])[0]
        return
    assert "image" in str(failure(api.errors.BadRequestError, api.create, [dict(api.image)])).lower()


def check_error(api):
    """Send a bad value, and request an unknown model: each error has its own class."""
    bad = [(api.errors.BadRequestError, {"limit": -1})]
    if not ANY_NAME:
        bad.append((api.errors.NotFoundError, {"model": "none"}))
    for expected, more in bad:
        for call in (api.create, api.stream):
            assert request_id_of(failure(expected, call, PROMPT, **more))


def check_abort(api):
    """Abort a stream after its first text; the next call is answered at once."""
    assert api.first_of(ENDLESS)
    began = time.monotonic()
    check_json(api)
    assert time.monotonic() - began < 60


CELLS = [check_json, check_stream, check_tools, check_images, check_error, check_abort]
table = {}
for each in (Chat(), Responses(), Messages(), Cohere()):
    for check in CELLS:
        try:
            check(each)
            outcome = "ok"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:500]
        table[f"{type(each).__name__.lower()} {check.__name__.removeprefix('check_')}"] = outcome
print(json.dumps(table))
