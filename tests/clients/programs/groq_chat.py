"""groq: an answer, a stream, models and an error. Prints one JSON object."""

import json
import os

from groq import Groq, NotFoundError

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "Hi"}]

client = Groq(base_url=os.environ["ORIGIN"], api_key=os.environ["API_KEY"], max_retries=0, _strict_response_validation=True)
answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=9)
text, pieces = "", 0
for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
    for choice in chunk.choices:
        if choice.delta.content:
            text, pieces = text + choice.delta.content, pieces + 1
try:
    client.chat.completions.create(model="no-such-model", messages=MESSAGES)
except NotFoundError as error:
    refused = error.body["error"]["code"] if "error" in error.body else error.body["code"]
print(
    json.dumps(
        {
            "class": type(answer).__name__, "text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason,
            "usage": answer.usage.total_tokens, "streamed": text, "pieces": pieces, "models": [one.id for one in client.models.list().data],
            "model": client.models.retrieve(MODEL).id, "refused": refused,
        }
    )
)  # fmt: skip
