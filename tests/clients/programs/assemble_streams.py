"""Assembles streams of the Messages and Responses APIs with the code of the packages `anthropic` and `openai`.

STREAMS is the path of a JSON list of pairs: the API, and the text of a whole stream. Prints one JSON object whose
`answers` are the assembled message or response of each.
"""

import json
import os
from pathlib import Path

from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

MESSAGE_EVENT = TypeAdapter(RawMessageStreamEvent)
RESPONSE_EVENT = TypeAdapter(ResponseStreamEvent)


def events_of(stream):
    """Return the data of the events."""
    return [json.loads(event.partition("data: ")[2]) for event in stream.split("\n\n") if "data: " in event]


def message_of(events):
    """Return the message that the anthropic package assembles."""
    snapshot, buffers = None, {}
    for event in events:
        parsed = MESSAGE_EVENT.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot.model_dump(mode="json")


def response_of(events):
    """Return the response that the openai package assembles. Check that each text is the sum of its deltas."""
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    said = {}
    for event in events:
        for made in state.handle_event(RESPONSE_EVENT.validate_python(event)):
            if made.type == "response.output_text.done":
                said[made.output_index, made.content_index] = made.text
            elif made.type == "response.output_text.delta":
                said[made.output_index, made.content_index, "snapshot"] = made.snapshot
    for key, text in said.items():
        assert said.get((*key[:2], "snapshot"), text) == text
    return state._completed_response.model_dump(mode="json")


answers = [
    {"messages": message_of, "responses": response_of}[api](events_of(stream))
    for api, stream in json.loads(Path(os.environ["STREAMS"]).read_text())
]
print(json.dumps({"answers": answers}))
