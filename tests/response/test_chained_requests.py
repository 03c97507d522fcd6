"""One answer from several dependent requests, as JSON and as a stream."""

from __future__ import annotations

import json
from collections.abc import Generator

from gateway.response.chained_requests import ReadAnswer, mark_stopped, run_chained, to_stream
from providers.base import Body, Usage
from tests.support.scripted import ScriptedResponse, completion


async def test_later_requests_see_earlier_answers_and_the_prompt_counts_once() -> None:
    sent: list[bytes] = []

    def parts() -> Generator[Body, bytes, bytes]:
        first = yield Body(b'{"part":1}')
        second = yield Body(json.dumps({"after": first.decode()}).encode())
        return first + second

    async def ask(body: Body) -> tuple[ReadAnswer, ScriptedResponse]:
        sent.append(body.encode())
        return (b"%d" % len(sent), Usage(10, 2), ("stop",)), ScriptedResponse([])

    (answer, usage, finish_reasons), _ = await run_chained(parts(), ask)
    assert sent == [b'{"part":1}', b'{"after": "1"}']
    assert (answer, usage, finish_reasons) == (b"12", Usage(10, 4), ("stop",))


def test_answer_as_a_stream_has_text_finish_and_usage() -> None:
    events, opening = to_stream(completion("Hello"), usage_asked=True)
    chunks = [json.loads(line[6:]) for line in events.decode().split("\n\n") if line]
    assert chunks[0]["choices"][0]["delta"]["content"] == "Hello"
    assert chunks[1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[2]["usage"]["total_tokens"] == 7
    assert opening.id == "c"


def test_an_answer_that_a_stop_string_ended_names_it() -> None:
    (choice,) = json.loads(mark_stopped(completion("Hello"), "X"))["choices"]
    assert (choice["stop_sequence"], choice["message"]["content"]) == ("X", "Hello")
