"""goodfire: answers, streams and token probabilities with both of its clients, a variant, and an error. Prints one JSON object."""

import asyncio
import json
import os

import goodfire
from goodfire.api.exceptions import NotFoundException

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "Say hello."}]
OPTIONS = {"api_key": os.environ["API_KEY"], "base_url": os.environ["ORIGIN"]}


async def ask_asynchronously() -> dict[str, object]:
    """Make the calls with the async client, which prepends its own system message."""
    client = goodfire.AsyncClient(**OPTIONS)
    answer = await client.chat.completions.create(MESSAGES, model=MODEL, max_completion_tokens=12)
    stream = await client.chat.completions.create(MESSAGES, model=MODEL, max_completion_tokens=12, stream=True)
    return {"text": answer.choices[0].message["content"], "streamed": "".join([chunk.choices[0].delta.content async for chunk in stream])}


client = goodfire.Client(**OPTIONS)
answer = client.chat.completions.create(MESSAGES, model=MODEL, max_completion_tokens=12)
chunks = list(client.chat.completions.create(MESSAGES, model=MODEL, max_completion_tokens=12, stream=True))
probabilities = client.chat.logits(MESSAGES, model=MODEL, top_k=5).logits
refused = None
variant = goodfire.Variant(MODEL)
varied = client.chat.completions.create(MESSAGES, model=variant, max_completion_tokens=12)
try:
    client.chat.completions.create(MESSAGES, model="no-such-model")
except NotFoundException as error:
    refused = str(error)
print(
    json.dumps(
        {
            "class": type(answer).__name__, "text": answer.choices[0].message["content"], "finish": answer.choices[0].finish_reason,
            "streamed": "".join(chunk.choices[0].delta.content for chunk in chunks),
            "indexes": [chunk.choices[0].gf_token_index for chunk in chunks],
            "finishes": [chunk.choices[0].finish_reason for chunk in chunks],
            "logits": probabilities, "varied": varied.choices[0].message["content"], "refused": refused,
            "asynchronously": asyncio.run(ask_asynchronously()),
        }
    )
)  # fmt: skip
