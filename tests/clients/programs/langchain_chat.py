"""LangChain's ChatOpenAI: an answer, a stream, structured output and a forced tool call. Prints one JSON object."""

import json
import os

from langchain_openai import ChatOpenAI
from openai import BadRequestError

PROMPT = "What is the capital of France?"
chat = ChatOpenAI(model=os.environ["MODEL"], max_retries=0, timeout=120, max_tokens=12, stream_usage=True)
out: dict[str, object] = {}

answer = chat.invoke(PROMPT)
out["text"] = answer.text
out["finish"] = answer.response_metadata["finish_reason"]
chunks = list(chat.stream(PROMPT))
out["pieces"] = sum(bool(chunk.text) for chunk in chunks)
out["streamed"] = "".join(chunk.text for chunk in chunks)
out["usage_tokens"] = sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks)

if os.environ.get("STRUCTURED"):
    text = {"type": "string", "maxLength": 40}
    schema = {"title": "City", "type": "object", "properties": {"city": text, "country": text}, "required": ["city", "country"]}
    wide = ChatOpenAI(model=os.environ["MODEL"], max_retries=0, timeout=120, max_tokens=120)
    out["object"] = wide.with_structured_output({**schema, "additionalProperties": False}, method="json_schema").invoke(PROMPT)
    parameters = {"type": "object", "properties": {"city": text}, "required": ["city"]}
    tool = {"name": "get_weather", "description": "The weather in a city", "parameters": parameters}
    called = wide.bind_tools([{"type": "function", "function": tool}], tool_choice="required").invoke("What is the weather in Paris?")
    out["tool"] = {"name": called.tool_calls[0]["name"], "input": called.tool_calls[0]["args"]}

try:
    chat.invoke(PROMPT, top_p="wide")
except BadRequestError as error:
    out["error"] = {"class": type(error).__name__, "status": error.status_code, "param": error.param}
print(json.dumps(out))
