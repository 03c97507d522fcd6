"""Use the package `cohere` with Cohere's own models: chats with citations and tool plans, streams, embeddings with both APIs.

Prints one JSON object.
"""

import json
import os
from typing import Any

import cohere

ORIGIN, KEY = os.environ["ORIGIN"], os.environ["API_KEY"]
first, second = cohere.Client(base_url=ORIGIN, api_key=KEY), cohere.ClientV2(base_url=ORIGIN, api_key=KEY)
ASKED: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
found: dict[str, Any] = {}
answer = second.chat(model="command", messages=ASKED, documents=["Bern."], k=5)
found["answer"] = [answer.message.content[1].text, answer.message.citations[0].text, answer.usage.billed_units.input_tokens]
planned = second.chat(model="command", messages=ASKED, tools=TOOLS)
found["plan"] = [planned.message.tool_plan, planned.message.tool_calls[0].function.name, planned.finish_reason]
turns = [*ASKED, planned.message, {"role": "tool", "tool_call_id": planned.message.tool_calls[0].id, "content": "sunny"}]
found["after_tool"] = second.chat(model="command", messages=turns, documents=["Bern."]).finish_reason
text, kinds = "", []
for event in second.chat_stream(model="command", messages=ASKED, documents=["Bern."]):
    kinds.append(event.type)
    if event.type == "content-delta":
        text += event.delta.message.content.text or ""
found["stream"] = [text, "citation-start" in kinds, kinds[-1], event.delta.usage.billed_units.output_tokens]
vectors = second.embed(model="embed", texts=["a"], input_type="search_query", embedding_types=["int8", "float"])
found["native_vectors"] = [vectors.embeddings.int8, vectors.embeddings.float_]
vectors = first.embed(model="embed", texts=["a"], input_type="search_query", embedding_types=["int8", "float"])
found["native_vectors_v1"] = [vectors.embeddings.int8, vectors.embeddings.float_]
for name, client in (("one", first), ("two", second)):
    for model in ("embed", "other"):
        got = client.embed(model=model, texts=["a", "b"], input_type="search_document")
        floats = got.embeddings if name == "one" else got.embeddings.float_
        found[f"{name} {model}"] = [type(got).__name__, floats, got.meta.billed_units.input_tokens]
try:
    second.embed(model="other", texts=["a"], input_type="search_query", embedding_types=["int8"])
except cohere.BadRequestError as error:
    found["refused"] = error.body["message"]
try:
    first.chat(model="command", message="hi")
except cohere.NotFoundError as error:
    found["old"] = error.body["error"]["message"]
print(json.dumps(found))
