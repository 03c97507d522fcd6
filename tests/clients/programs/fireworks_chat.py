"""fireworks-ai: an answer, a stream, a tool call and an error. Prints one JSON object."""

import json
import os

from fireworks import Fireworks, NotFoundError

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "Hi"}]
SHOWN = {"stream_options": {"include_usage": True}}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}

client = Fireworks(base_url=os.environ["ORIGIN"] + os.environ.get("UNDER", ""), api_key=os.environ["API_KEY"], max_retries=0)
answer = client.chat.completions.create(
    model=MODEL, messages=MESSAGES, max_tokens=9, prompt_truncate_len=100, context_length_exceeded_behavior="truncate", top_k=5
)
text, pieces, usage = "", 0, None
for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, extra_body=SHOWN):
    for choice in chunk.choices:
        if choice.delta.content:
            text, pieces = text + choice.delta.content, pieces + 1
    usage = chunk.usage.total_tokens if chunk.usage else usage
call = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[WEATHER]).choices[0].message.tool_calls[0]
try:
    client.chat.completions.create(model="no-such-model", messages=MESSAGES)
except NotFoundError as error:
    refused = error.body["error"]["code"] if "error" in error.body else error.body["code"]
print(
    json.dumps(
        {
            "class": type(answer).__name__, "text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason,
            "usage": answer.usage.total_tokens, "streamed": text, "pieces": pieces, "stream_usage": usage,
            "tool": [call.function.name, call.function.arguments], "refused": refused,
        }
    )
)  # fmt: skip
