"""The call log: it has one line per call, without prompts or answers, and never blocks a call."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import time
from pathlib import Path

import pytest

import providers
from gateway.call import Attempt, Call
from gateway.errors import BadRequest, Unavailable
from gateway.keys.virtual_key import VirtualKey
from gateway.telemetry import call_log, log_record
from gateway.telemetry.call_log import CallLog
from gateway.telemetry.log_record import human_line, record, shown_user
from providers.base import Adjustment, Target, Usage
from tests.support.each import each

ROOT = Path(__file__).parents[2]


def target(name: str) -> Target:
    """Return a target of that name."""
    return Target(name, name.partition("/")[0], providers.get("openai"), name.partition("/")[2], "http://upstream/v1")


def finished_call() -> Call:
    """Return a finished call."""
    call = Call("chat", "/v1/chat/completions")
    call.model, call.status, call.stream = "smart", 200, True
    attempt = Attempt(target("b/y"), usage=Usage(9, 12, estimated=True), finish_reasons=("stop",))
    attempt.adjustments = [Adjustment("temperature", "clamp", 1.7, 1.0, "text")]
    call.attempts, call.answered_by = [Attempt(target("a/x"), outcome="429", ms=4.0), attempt], attempt
    return call


def test_record_has_names_numbers_and_timings() -> None:
    call = finished_call()
    found = json.loads(log_record._encode(record(call, call.started + 0.5)))
    assert found["ms"] == 500
    assert (found["model"], found["status"], found["stream"], found["id"]) == ("smart", 200, True, call.id)
    assert (found["operation"], found["path"]) == ("chat", "/v1/chat/completions")
    assert (found["prompt_tokens"], found["output_tokens"], found["estimated"]) == (9, 12, True)
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["429", "ok"]
    assert found["adjustments"] == ["temperature:clamp 1.7 -> 1"]


def test_disconnected_caller_is_logged_with_status_499() -> None:
    call = finished_call()
    call.abort_phase = "mid"
    assert record(call, call.started)["status"] == 499


NASTY_TEXTS = {
    "long": "x",
    "lines": "\r\n",
    "colours": "\x1b[31m",
    "json": '"},{"status":200',
    "separators": "\u2028\u202e",
    "wide": "\U0001f600",
}


@pytest.mark.parametrize("length", [100_000, pytest.param(1_000_000, marks=pytest.mark.prove)])
@pytest.mark.parametrize("name", NASTY_TEXTS)
def test_s11_record_is_one_line_of_at_most_8_kib_whatever_it_contains(name: str, length: int) -> None:
    text = NASTY_TEXTS[name] * (length // len(NASTY_TEXTS[name]))
    call = finished_call()
    call.model, call.client_id, call.stream_end = text, text, text
    call.attempts = [Attempt(target(text), outcome=text, billed=(Usage(1, 1),))] * 50
    adjustments = [Adjustment(text, "drop")] * 100
    call.answered_by = Attempt(target(text), upstream_id=text, finish_reasons=(text,) * 100, adjustments=adjustments)
    for error in (BadRequest(text, param=text, code=text), Unavailable(text, code=text)):
        call.error = error
        line = log_record.json_line(call, call.started + 1)
        assert len(line) <= 8192
        assert line.count(b"\n") == 1
        found = json.loads(line)
        assert (found["id"], found["status"], found["cut"]) == (call.id, 200, True)
        assert not any(byte < 32 for byte in line[:-1])


def test_a_cut_record_keeps_the_names_by_which_calls_are_found() -> None:
    subject = "\U0001f600" * 255
    call = finished_call()
    call.key = VirtualKey(f"{'i' * 64}/{subject}", team="t" * 64)
    call.end_user, call.model = "u" * 128, "\x7f\x01" * 128
    call.attempts = [Attempt(target("a/" + "x" * 200), outcome="500")] * 50
    line = log_record.json_line(call, call.started + 1)
    assert len(line) <= 8192
    found = json.loads(line)
    assert found["cut"]
    assert [found[name] for name in ("key", "team", "end_user", "model")] == [call.key.name, "t" * 64, "u" * 128, call.model]


def test_short_record_is_not_cut() -> None:
    call = finished_call()
    assert json.loads(log_record.json_line(call, call.started + 1)).keys() == record(call, call.started).keys()


def test_s12_only_messages_of_the_gateway_itself_are_logged() -> None:
    call = finished_call()
    call.error = BadRequest("no such role: 'my secret prompt'", param="messages[0].role")
    found = record(call, call.started)
    assert (found["error"], found["param"]) == ("invalid_value", "messages[0].role")
    assert "my secret prompt" not in str(found) + human_line(call, call.started).decode()
    call.error = Unavailable("The gateway is shutting down.")
    assert record(call, call.started)["message"] == "The gateway is shutting down."


@each("name", ["a\nb", "a\r\nstatus 200", "a\x1b[31mred", "\u2028x", "\u202ex"])
def test_model_name_cannot_forge_a_human_readable_line(name: str) -> None:
    call = finished_call()
    call.model = name
    line = human_line(call, call.started).decode("ascii")
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
    assert "smart" not in line


async def test_lines_are_written_promptly_and_completely(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    log = CallLog(descriptor, human=False)
    for _ in range(100):
        log.add(finished_call(), time.monotonic())
    deadline = time.monotonic() + 20
    while path.read_text().count("\n") < 100:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    log.add(finished_call(), time.monotonic())
    log.close()
    os.close(descriptor)
    lines = path.read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == 101


async def test_stalled_reader_does_not_block_and_dropped_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_log, "MAX_LINES", 500)
    reading, writing = os.pipe()
    log = CallLog(writing, human=False)
    began = time.monotonic()
    line = b"x" * 1000 + b"\n"
    for number in range(3000):
        log.write(line)
        if number % 400 == 399:
            await asyncio.sleep(0.15)
    assert log.drops > 0
    log.close(timeout_s=0.1)
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


async def test_closed_pipe_is_not_an_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = CallLog(writing, human=True)
    log.add(finished_call(), time.monotonic())
    await asyncio.sleep(0.3)
    log.add(finished_call(), time.monotonic())
    log.close()
    os.close(writing)


def test_docs_explain_every_field_of_a_record() -> None:
    (record,) = [
        node
        for node in ast.parse((ROOT / "gateway" / "telemetry" / "log_record.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "record"
    ]
    keys = {
        node.slice.value
        for node in ast.walk(record)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }
    keys |= {
        key.value
        for node in ast.walk(record)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert len(keys) > 20
    rows = [
        line.split(" | ")[0] for line in (ROOT / "docs" / "log.md").read_text().splitlines() if line.startswith("| `")
    ]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} | {"estimated"}
    assert keys - named == set()


@each("user", ["u-123", "ann@example.com", "tenant/7:ann", "jürgen", "x" * 128])
def test_an_end_user_of_one_word_is_logged_as_it_is(user: str) -> None:
    assert shown_user(user) == user


@each("user", ["two words", "a\nb", "x" * 129, "a,b", "\ud800"])
def test_other_text_in_place_of_an_end_user_is_logged_as_a_hash(user: str) -> None:
    shown = shown_user(user)
    assert (shown[:7], len(shown)) == ("sha256:", 23)
    assert user not in shown
