"""LangChain and pydantic-ai with the Responses API: an answer, a stream, a tool and a model's reasoning sent back.

Prints one JSON object. The upstream is that of openai_responses.py.
"""

import asyncio
import json
import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

ADDRESS = {"base_url": os.environ["BASE_URL"], "api_key": os.environ["KEY"]}


@tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"21 degrees in {city}"


def langchain():
    """Call the model, stream, and let it call a tool."""
    model = ChatOpenAI(
        model="m", use_responses_api=True, max_retries=0, include=["reasoning.encrypted_content"], **ADDRESS
    )
    streamed = "".join(chunk.text for chunk in model.stream("hello"))
    asked = HumanMessage("call the tool")
    first = model.bind_tools([weather]).invoke([asked])
    call = first.tool_calls[0]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    second = model.bind_tools([weather]).invoke([asked, first, result])
    return {"text": model.invoke("hello").text, "streamed": streamed, "call": call["args"], "second": second.text}


async def pydantic_ai():
    """Run an agent with a tool."""
    model = OpenAIResponsesModel("m", provider=OpenAIProvider(**ADDRESS))
    settings = OpenAIResponsesModelSettings(openai_reasoning_effort="low", openai_reasoning_summary="auto")
    agent = Agent(model, model_settings=settings, tools=[lambda_weather])
    run = await agent.run("call the tool")
    async with agent.run_stream("hello") as stream:
        return {"text": run.output, "streamed": await stream.get_output(), "tokens": run.usage.input_tokens}


def lambda_weather(city: str) -> str:
    """Return the weather."""
    return f"21 degrees in {city}"


lambda_weather.__name__ = "weather"
print(json.dumps({"langchain": langchain(), "pydantic_ai": asyncio.run(pydantic_ai())}))
