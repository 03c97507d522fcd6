"""Property test: responses of the upstream that are cut at any byte have the same results in the fast lane and in the pipeline."""

from __future__ import annotations

import json

import pytest

from gateway.fast.fast_call import FastCall
from tests.fast.conftest import StartPair
from tests.fast.test_both_ways import assert_same_state, comparable, configuration, settled
from tests.faults.behaviours import END, JSON, SSE, WORDS, chat_chunk, chunked, completion
from tests.faults.chat_script import answer_as_openai
from tests.faults.client import ask, chat
from tests.faults.upstream_server import Exchange, FaultUpstream, Script
from tests.support.search import every

pytestmark = pytest.mark.usefixtures("steps")

INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
EVENTS = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in (*WORDS, chat_chunk(finish="stop"))) + b"data: [DONE]\n\n"
ANSWER = completion("one two")
RESPONSES = {
    "json": JSON + b"content-length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    "chunked": JSON + b"transfer-encoding: chunked\r\n\r\n" + chunked(ANSWER[:50]) + chunked(ANSWER[50:]) + b"0\r\nx-trailer: 1\r\n\r\n",
    "until the end": INTERIM + JSON + b"\r\n" + ANSWER,
    "events": INTERIM + SSE + b"".join(chunked(each + b"\n\n") for each in EVENTS.split(b"\n\n")[:-1]) + END,
}


FAILURES_BEFORE_COOLDOWN = 900


def cut(data: bytes, *, resets: bool) -> Script:
    """Return a script that sends these bytes and then closes or resets the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.flush()
        (exchange.rst if resets else exchange.fin)()

    return script


@pytest.mark.search
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("form", RESPONSES)
async def test_a_response_that_is_cut_has_the_same_result_both_ways(
    start_pair: StartPair, up: FaultUpstream, entered: list[FastCall], form: str, resets: bool
) -> None:
    pair = await start_pair(f"retry_budget: 1\n{configuration(up).lstrip()}")
    response = RESPONSES[form]
    places = every(range(len(response)), 41)
    for number, place in enumerate(places):
        if number % (FAILURES_BEFORE_COOLDOWN // 2) == 0:  # a cooldown ends by the clock, at a different call of each gateway
            up.on(lambda request: True, answer_as_openai)
            for gateway in pair.both:
                for model in ("alone-mock", "vllm-mock"):
                    assert (await ask(gateway.port, chat(model))).status == 200
        up.on(lambda request: True, cut(response[:place], resets=resets))
        for model in ("alone-mock", "two-mock"):
            answers = [await ask(gateway.port, chat(model, stream=form == "events")) for gateway in pair.both]
            assert comparable(answers[0]) == comparable(answers[1]), place
            await settled(pair)
    refreshes = len(range(0, len(places), FAILURES_BEFORE_COOLDOWN // 2))
    await assert_same_state(pair, 2 * len(places) + 2 * refreshes)
    assert len(entered) > len(places)
