"""Connects to the realtime API with the openai package, synchronously and asynchronously, and with the websockets package."""

import asyncio
import json
import os

import openai
import websockets
from websockets.asyncio.client import connect

MODEL = os.environ["MODEL"]
BIG = "x" * 500_000


def receive(connection, kind):
    """Return the texts up to an event of a kind, and this event."""
    texts = []
    for event in connection:
        if event.type == "response.output_text.delta":
            texts.append(event.delta)
        if event.type == kind:
            return texts, event


def sync_client():
    """Send two requests on one connection, the second one with a large message. Return the results of both."""
    client = openai.OpenAI(max_retries=0)
    with client.realtime.connect(model=MODEL, extra_headers={"openai-beta": "realtime=v1"}) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        _, updated = receive(connection, "session.updated")
        texts = []
        for text in ("hello", BIG):
            connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
            )
            connection.response.create()
            found, done = receive(connection, "response.done")
            texts.append("".join(found))
    return {"texts": texts, "usage": done.response.usage.total_tokens, "modalities": updated.session.output_modalities}


async def async_client():
    """Send one request and return the text of its response."""
    client = openai.AsyncOpenAI(max_retries=0)
    texts = []
    async with client.realtime.connect(model=MODEL) as connection:
        await connection.response.create()
        async for event in connection:
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
            if event.type == "response.done":
                break
    return "".join(texts)


async def plain_client():
    """Ping the gateway, request a close, and connect with a wrong key. Return the results of all three."""
    url = os.environ["OPENAI_BASE_URL"].replace("http", "ws", 1) + "/realtime?model=" + MODEL
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    async with connect(url, additional_headers=headers, compression="deflate", proxy=None) as socket:
        latency = await (await socket.ping())
        await socket.send(json.dumps({"type": "close", "code": 4001}))
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as closed:
            code = closed.rcvd.code
    try:
        await connect(url, additional_headers={"authorization": "Bearer wrong"}, proxy=None)
    except websockets.InvalidStatus as refused:
        return {"code": code, "ping": latency >= 0, "refused": refused.response.status_code}


print(json.dumps({"sync": sync_client(), "async": asyncio.run(async_client()), "plain": asyncio.run(plain_client())}))
