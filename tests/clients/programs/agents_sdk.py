"""The OpenAI Agents SDK: one agent with three tools, run as a whole and as a stream. Arguments: the API, the task.

Prints both answers.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI

API, TASK = sys.argv[1:]
MODELS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}


@function_tool
def write(text: str) -> str:
    """Write the note."""
    Path("note.txt").write_text(text)
    return "written"


@function_tool
def run(command: str) -> str:
    """Run a shell command."""
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


@function_tool
def read() -> str:
    """Read the note."""
    return Path("note.txt").read_text()


async def main() -> None:
    """Run the agent twice."""
    client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key=os.environ["KEY"], max_retries=0)
    model = MODELS[API](model=os.environ.get("MODEL", "smart"), openai_client=client)
    agent = Agent(name="Worker", instructions="Use the tools.", model=model, tools=[write, run, read])
    print((await Runner.run(agent, TASK)).final_output)
    streamed = Runner.run_streamed(agent, TASK)
    async for _ in streamed.stream_events():
        pass
    print(streamed.final_output)


asyncio.run(main())
