"""instructor: an object validated by a pydantic model, by schema and by tool call. Prints one JSON object."""

import json
import os

import instructor
import openai
from pydantic import BaseModel, Field


class City(BaseModel):
    """The requested object."""

    city: str = Field(max_length=40)
    country: str = Field(max_length=40)


def ask(mode: instructor.Mode) -> dict[str, str]:
    """Request an object and validate it in this mode."""
    client = instructor.from_openai(openai.OpenAI(max_retries=0, timeout=120), mode=mode)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    city = client.chat.completions.create(model=os.environ["MODEL"], messages=messages, response_model=City, max_tokens=120, max_retries=0)
    return dict(city.model_dump())


print(json.dumps({"by_schema": ask(instructor.Mode.JSON_SCHEMA), "by_tool": ask(instructor.Mode.TOOLS)}))
