"""pydantic-ai: the answer and stream of an agent, and an output type forced by a tool call. Prints one JSON object."""

import asyncio
import json
import os

from pydantic import BaseModel, Field
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

PROMPT = "What is the capital of France?"


class City(BaseModel):
    """The requested output."""

    city: str = Field(max_length=40)
    country: str = Field(max_length=40)


async def main() -> None:
    """Make all calls and print the result."""
    provider = OpenAIProvider(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
    model = OpenAIChatModel(os.environ["MODEL"], provider=provider)
    agent = Agent(model, model_settings=ModelSettings(max_tokens=12, timeout=120), retries=0)
    out: dict[str, object] = {"text": (await agent.run(PROMPT)).output}
    async with agent.run_stream(PROMPT) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    out["streamed"], out["pieces"] = "".join(pieces), len(pieces)
    if os.environ.get("STRUCTURED"):
        typed = Agent(model, output_type=City, model_settings=ModelSettings(max_tokens=120, timeout=120), retries=0)
        out["object"] = (await typed.run(PROMPT)).output.model_dump()
    print(json.dumps(out))


asyncio.run(main())
