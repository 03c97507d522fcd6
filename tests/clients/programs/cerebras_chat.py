"""cerebras-cloud-sdk: its warm-up request, an answer, a stream, models and an error. Prints one JSON object."""

import json
import os

import httpx
from cerebras.cloud.sdk import Cerebras, NotFoundError

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "Hi"}]
seen: list[list[object]] = []


def note(response: httpx.Response) -> None:
    """Record a request and the status of its response."""
    seen.append([response.request.method, response.request.url.path, response.status_code])


http = httpx.Client(event_hooks={"response": [note]}, trust_env=False)
client = Cerebras(
    base_url=os.environ["ORIGIN"], api_key=os.environ["API_KEY"], max_retries=0, http_client=http, _strict_response_validation=True
)
raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=9, temperature=0.5)
answer = raw.parse()
text, pieces, usage, timed = "", 0, None, False
for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}):
    for choice in chunk.choices or ():
        if choice.delta and choice.delta.content:
            text, pieces = text + choice.delta.content, pieces + 1
    usage = chunk.usage.total_tokens if chunk.usage else usage
    timed = timed or chunk.time_info is not None
try:
    client.chat.completions.create(model="no-such-model", messages=MESSAGES)
except NotFoundError as error:
    refused = error.body["error"]["code"] if "error" in error.body else error.body["code"]
print(
    json.dumps(
        {
            "requests": seen, "class": type(answer).__name__, "text": answer.choices[0].message.content,
            "finish": answer.choices[0].finish_reason, "usage": answer.usage.total_tokens, "time": answer.time_info.total_time,
            "adjusted": raw.headers.get("x-gateway-adjusted"), "streamed": text, "pieces": pieces, "stream_usage": usage,
            "stream_timed": timed, "models": [one.id for one in client.models.list().data], "model": client.models.retrieve(MODEL).id,
            "refused": refused,
        }
    )
)  # fmt: skip
