"""Native calls of the Responses API with the openai package: create, stream, store, continue, read, list.

Prints one JSON object. The environment has the address of the gateway (BASE_URL) and a key (KEY). The upstream is the
fake of tests/native/responses_fake.py; the model `m` is native, `chat` is translated.
"""

import json
import os

import openai

ADDRESS = {
    "base_url": os.environ["BASE_URL"], "api_key": os.environ["KEY"], "max_retries": 0, "timeout": 60, "_strict_response_validation": True,
}  # fmt: skip
SEARCH = {"type": "web_search"}


def summary(response):
    """Return the parts of a response that an application reads."""
    usage = response.usage
    return {
        "text": response.output_text,
        "kinds": [item.type for item in response.output],
        "usage": [usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens],
        "store": response.model_dump()["store"],
    }


def refusal(client):
    """Return the parameter that is named in the error for a hosted tool without a native target."""
    try:
        client.responses.create(model="chat", input="search", tools=[SEARCH])
    except openai.BadRequestError as error:
        return error.param


def main():
    """Make the calls."""
    with openai.OpenAI(**ADDRESS) as client:
        whole = client.responses.create(model="m", input="search", tools=[SEARCH])
        with client.responses.stream(model="m", input="search", tools=[SEARCH], store=True) as stream:
            events = [event.type for event in stream]
            streamed = stream.get_final_response()
        again = client.responses.create(model="m", input="again", previous_response_id=streamed.id)
        result = {
            "whole": summary(whole),
            "streamed": summary(streamed),
            "events": [events[0], events[-1], events.count("response.output_text.delta")],
            "again": again.output_text,
            "read": summary(client.responses.retrieve(streamed.id)),
            "items": [item.type for item in client.responses.input_items.list(streamed.id)],
            "refused": refusal(client),
        }
    print(json.dumps(result))


main()
