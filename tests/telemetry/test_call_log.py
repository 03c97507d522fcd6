"""One line per call, never in the way of one, and nothing private in it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

import providers
from gateway.call import Attempt, Call
from gateway.errors import BadRequest, Unavailable
from gateway.telemetry import call_log as calllog
from gateway.telemetry.call_log import CallLog, human_line, record
from providers.base import Adjustment, Target, Usage


def target(name: str) -> Target:
    """A target of that name."""
    return Target(name, name.partition("/")[0], providers.get("openai"), name.partition("/")[2], "http://upstream/v1")


def call() -> Call:
    """A finished call."""
    found = Call("chat", "/v1/chat/completions")
    found.model, found.status, found.stream = "smart", 200, True
    answered = Attempt(target("b/y"))
    answered.usage = Usage(9, 12, estimated=True)
    answered.finish_reasons = ("stop",)
    answered.adjustments = [Adjustment("temperature", "clamp", 1.7, 1.0, "text")]
    found.attempts = [Attempt(target("a/x"), outcome="429", ms=4.0), answered]
    found.answered_by = answered
    return found


def test_a_record_has_names_numbers_and_timings() -> None:
    one = call()
    found = json.loads(calllog._encode(record(one, one.started + 0.5)))
    assert found["ms"] == 500
    assert (found["model"], found["status"], found["stream"], found["id"]) == ("smart", 200, True, one.id)
    assert (found["prompt_tokens"], found["output_tokens"], found["estimated"]) == (9, 12, True)
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["429", "ok"]
    assert found["adjustments"] == ["temperature:clamp"]


def test_a_caller_who_left_is_a_499_whatever_was_answered() -> None:
    one = call()
    one.abort_phase = "mid"
    assert record(one, one.started)["status"] == 499


NASTY = [one * (1_000_000 // len(one)) for one in ("x", "\r\n", "\x1b[31m", '"},{"status":200', "\u2028\u202e", "\U0001f600")]


@pytest.mark.parametrize("text", NASTY, ids=["long", "lines", "colours", "json", "separators", "wide"])
def test_s11_a_record_is_one_line_of_at_most_8_kib_whatever_is_in_it(text: str) -> None:
    one = call()
    one.model, one.client_id, one.stream_end = text, text, text
    one.attempts = [Attempt(target(text), outcome=text, billed=(Usage(1, 1),))] * 50
    one.answered_by = Attempt(
        target(text), upstream_id=text, finish_reasons=(text,) * 100, adjustments=[Adjustment(text, "drop")] * 100
    )
    for error in (BadRequest(text, param=text, code=text), Unavailable(text, code=text)):
        one.error = error
        line = calllog.json_line(one, one.started + 1)
        assert len(line) <= 8192
        assert line.count(b"\n") == 1
        found = json.loads(line)
        assert (found["id"], found["status"], found["cut"]) == (one.id, 200, True)
        assert not any(byte < 32 for byte in line[:-1])


def test_a_line_that_is_short_enough_is_whole() -> None:
    one = call()
    assert json.loads(calllog.json_line(one, one.started + 1)).keys() == record(one, one.started).keys()


def test_s12_errors_of_others_are_named_and_not_quoted() -> None:
    one = call()
    one.error = BadRequest("no such role: 'my secret prompt'", param="messages[0].role")
    found = record(one, one.started)
    assert (found["error"], found["param"]) == ("invalid_value", "messages[0].role")
    assert "my secret prompt" not in str(found) + human_line(one, one.started).decode()
    one.error = Unavailable("The gateway is shutting down.")
    assert record(one, one.started)["message"] == "The gateway is shutting down."


@pytest.mark.parametrize("name", ["a\nb", "a\r\nstatus 200", "a\x1b[31mred", "\u2028x", "\u202ex"])
def test_a_name_cannot_forge_a_line_for_people(name: str) -> None:
    one = call()
    one.model = name
    line = human_line(one, one.started).decode("ascii")
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
    assert "smart" not in line


async def test_lines_are_written_soon_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    log = CallLog(descriptor, human=False)
    for _ in range(100):
        log.add(call(), time.monotonic())
    deadline = time.monotonic() + 20
    while path.read_text().count("\n") < 100:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    log.add(call(), time.monotonic())
    log.close()
    os.close(descriptor)
    lines = path.read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == 101


async def test_a_reader_who_stopped_stops_no_call_and_drops_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calllog, "MAX_LINES", 500)
    reading, writing = os.pipe()
    log = CallLog(writing, human=False)
    began = time.monotonic()
    line = b"x" * 1000 + b"\n"
    for number in range(3000):
        log.write(line)
        if number % 400 == 399:
            await asyncio.sleep(0.15)
    assert log.drops > 0
    log.close(patience=0.1)
    assert time.monotonic() - began < 30
    taken = 0
    os.set_blocking(reading, False)
    deadline = time.monotonic() + 20
    while taken < (3000 - log.drops) * len(line) and time.monotonic() < deadline:
        try:
            taken += len(os.read(reading, 1 << 20))
        except BlockingIOError:
            await asyncio.sleep(0.01)
    assert taken == (3000 - log.drops) * len(line)
    os.close(reading)
    os.close(writing)


async def test_a_reader_who_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = CallLog(writing, human=True)
    log.add(call(), time.monotonic())
    await asyncio.sleep(0.3)
    log.add(call(), time.monotonic())
    log.close()
    os.close(writing)
