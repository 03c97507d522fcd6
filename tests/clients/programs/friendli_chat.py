"""friendli: an answer and a stream through each of its three kinds of endpoint, and an error. Prints one JSON object."""

import json
import os

from friendli import SyncFriendli

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "Hi"}]
SHOWN = {"include_usage": True}


def ask(endpoint: object) -> dict[str, object]:
    """Return an answer and a stream of this kind of endpoint."""
    where = {"server_url": os.environ["ORIGIN"]}  # the address of a container is set per call, not per client
    answer = endpoint.chat.complete(model=MODEL, messages=MESSAGES, **where, max_tokens=9, top_k=5, seed=[1], repetition_penalty=1.1)
    text, pieces, usage = "", 0, None
    with endpoint.chat.complete(model=MODEL, messages=MESSAGES, **where, stream=True, stream_options=SHOWN) as events:
        for event in events:
            for choice in event.data.choices:
                if choice.delta.content:
                    text, pieces = text + choice.delta.content, pieces + 1
            usage = event.data.usage.total_tokens if event.data.usage else usage
    choice = answer.choices[0]
    return {
        "class": type(answer).__name__, "text": choice.message.content, "finish": choice.finish_reason, "usage": answer.usage.total_tokens,
        "streamed": text, "pieces": pieces, "stream_usage": usage,
    }  # fmt: skip


with SyncFriendli(token=os.environ["API_KEY"], server_url=os.environ["ORIGIN"], x_friendli_team="team-1") as client:
    found: dict[str, object] = {kind: ask(getattr(client, kind)) for kind in ("serverless", "dedicated", "container")}
    try:
        client.serverless.chat.complete(model="no-such-model", messages=MESSAGES)
    except Exception as error:  # the package has one class per documented status, and one for all others
        found["refused"] = [getattr(error, "status_code", None), "no-such-model" in str(error)]
print(json.dumps(found))
