"""Measure the CPU time of an event in the decoder and the relay, for untouched streams and for each kind of repair.

    python -m benchmarks.streams [--seconds 0.2]

Everything runs in one process, without a network. Events have about 200 bytes and arrive in pieces of one and of eight events.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway.response.upstream_answer import inband_failure
from gateway.streams.relay import Relay
from providers import get
from providers.base import Options, Target
from providers.usage import read_usage

EVENTS = 50
WORDS = (" the", " answer", " is", ' "42"', " and", " nothing", " else", "\n")
Chunk = dict[str, Any]


def chunk(number: int, **more: Any) -> Chunk:
    """Return one chunk of text, with these members of the choice."""
    choice = {"index": 0, "delta": {"content": WORDS[number % len(WORDS)]}, "finish_reason": None, **more}
    return {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "bench-model",
        "choices": [choice],
    }


def without(number: int, *names: str) -> Chunk:
    """Return a chunk without the named members, which may be members of the chunk or of its choice."""
    made = chunk(number)
    made["choices"] = [{key: value for key, value in made["choices"][0].items() if key not in names}]
    return {key: value for key, value in made.items() if key not in names}


def arguments(number: int, **more: Any) -> Chunk:
    """Return a piece of the arguments of a tool call."""
    call = {"index": 0, "function": {"arguments": '{"city": "' if number == 0 else "abc "}, **more}
    if number == 0:
        call |= {"id": "call_1", "type": "function", "function": {"name": "f", **call["function"]}}
    return chunk(number, delta={"tool_calls": [call]})


def logprobs(number: int) -> dict[str, Any]:
    """Return the log probabilities of one token."""
    word, value = WORDS[number % len(WORDS)], -number / 7
    return {
        "content": [{"token": word, "logprob": value, "bytes": list(word.encode()), "top_logprobs": []}],
        "refusal": None,
    }


def counted(number: int) -> dict[str, int]:
    """Return the usage so far."""
    return {"prompt_tokens": 300, "completion_tokens": number, "total_tokens": 300 + number}


def choices_at_once(number: int, count: int) -> Chunk:
    """Return a chunk with several choices."""
    made = chunk(number)
    return {**made, "choices": [{**made["choices"][0], "index": index} for index in range(count)]}


KINDS: dict[str, tuple[str, Callable[[int], Chunk]]] = {
    "untouched": ("openai", chunk),
    "untouched, obfuscation": ("openai", lambda n: {**chunk(n), "obfuscation": "aZ09bcd"[: 1 + n % 7]}),
    "untouched, logprobs": ("openai", lambda n: chunk(n, logprobs=logprobs(n))),
    "untouched, token ids": ("vllm", lambda n: chunk(n, token_ids=[n, n + 1])),
    "untouched, arguments": ("openai", arguments),
    "untouched, two choices in turn": ("openai", lambda n: chunk(n, index=n % 2)),
    "created changes": ("openai-compatible", lambda n: {**chunk(n), "created": 1700000000 + n}),
    "id changes": ("openai-compatible", lambda n: {**chunk(n), "id": f"chatcmpl-{n}"}),
    "id, created, fingerprint change": (
        "openai-compatible",
        lambda n: {**chunk(n), "id": f"chatcmpl-{n}", "created": 1700000000 + n, "system_fingerprint": f"fp_{n}"},
    ),
    "id, object, created, model missing": (
        "openai-compatible",
        lambda n: without(n, "id", "object", "created", "model"),
    ),
    "index missing": ("openai-compatible", lambda n: without(n, "index")),
    "role in every chunk": (
        "ollama",
        lambda n: chunk(n, delta={"role": "assistant", **chunk(n)["choices"][0]["delta"]}),
    ),
    "finish_reason empty": ("openai-compatible", lambda n: chunk(n, finish_reason="")),
    "content in parts": (
        "mistral",
        lambda n: chunk(n, delta={"content": [{"type": "text", "text": WORDS[n % len(WORDS)]}]}),
    ),
    "reasoning copied": ("openrouter", lambda n: chunk(n, delta={"content": "", "reasoning": WORDS[n % len(WORDS)]})),
    "usage in every chunk": ("vllm", lambda n: {**chunk(n), "usage": counted(n)}),
    "usage in every choice": ("openai-compatible", lambda n: chunk(n, usage=counted(n))),
    "three choices in a chunk": ("openai-compatible", lambda n: choices_at_once(n, 3)),
    "three choices in a chunk, id changes": ("openai-compatible", lambda n: {**choices_at_once(n, 3), "id": f"c{n}"}),
    "arguments without index": (
        "openai-compatible",
        lambda n: arguments(n) if n == 0 else _without_index(arguments(n)),
    ),
    "arguments, name repeated": ("openai-compatible", lambda n: _named(arguments(n))),
    "arguments, created changes": ("openai-compatible", lambda n: {**arguments(n), "created": n + 1}),
    "logprobs as a number": ("together", lambda n: chunk(n, logprobs=-n / 7)),
    "tokens repeated": ("goodfire", lambda n: {**chunk(n, gf_token_index=n), "created": None}),
    "a new member in every chunk": ("openai-compatible", lambda n: {**chunk(n), f"x{n}": n, "created": n + 1}),
}


def _named(made: Chunk) -> Chunk:
    call = made["choices"][0]["delta"]["tool_calls"][0]
    call |= {"id": "call_1", "function": {"name": "f", **call["function"]}}
    return made


def _without_index(made: Chunk) -> Chunk:
    del made["choices"][0]["delta"]["tool_calls"][0]["index"]
    return made


def stream_of(make: Callable[[int], Chunk], line_end: str = "\n", comment: str = "") -> tuple[list[bytes], bytes]:
    """Return the events of a stream, and its end."""
    events = [make(number) for number in range(EVENTS)]
    shown = [f"data: {json.dumps(event, separators=(',', ':'))}{line_end * 2}".encode() for event in events]
    indices = sorted({choice.get("index", 0) for event in events for choice in event["choices"]})
    finish = {**chunk(0), "choices": [{"index": index, "delta": {}, "finish_reason": "stop"} for index in indices]}
    last = {**chunk(0), "choices": [], "usage": counted(EVENTS)}
    end = "".join(f"data: {json.dumps(event, separators=(',', ':'))}{line_end * 2}" for event in (finish, last))
    return [comment.encode() + shown[0], *shown[1:]], f"{end}data: [DONE]{line_end * 2}".encode()


class Wire:
    """A stream as an upstream sends it, read in pieces of `size` events."""

    def __init__(self, kind: str, events: list[bytes], end: bytes, size: int) -> None:
        self._target = Target("p/bench-model", "p", get(kind), "bench-model", "http://127.0.0.1/v1", credential="k")
        self._pieces = [b"".join(events[at : at + size]) for at in range(0, len(events), size)] + [end]
        self.best = float("inf")
        """CPU seconds of the fastest reading."""

    def read(self) -> None:
        """Read the stream once."""
        began = time.process_time()
        relay = Relay(
            decoder=self._target.kind.decoder(self._target, Options(stream=True)),
            usage_asked=True,
            read_usage=read_usage,
            fail=lambda data: inband_failure(self._target, data),
        )
        for piece in self._pieces:
            relay.feed(piece)
        relay.end()
        self.best = min(self.best, time.process_time() - began)


def cost(wire: Wire, base: Wire, seconds: float) -> tuple[float, float]:
    """Return the CPU time per event of each of two streams, in microseconds: the best of many alternating readings."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        base.read()
        wire.read()
    return wire.best / EVENTS * 1e6, base.best / EVENTS * 1e6


def main() -> None:
    """Print a table: microseconds per event, and how many more they are than for an event that needs no repair."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of one measurement")
    seconds = parser.parse_args().seconds
    wires = [(name, kind, *stream_of(make)) for name, (kind, make) in KINDS.items()]
    wires += [
        ("untouched, CRLF", "openai", *stream_of(chunk, "\r\n")),
        ("untouched, a comment", "openai", *stream_of(chunk, "\n", ": hi\n\n")),
    ]
    untouched = stream_of(chunk)
    sys.stdout.write(
        "| kind | one event a piece, us | more than untouched | eight, us | more |\n| --- | --- | --- | --- | --- |\n"
    )
    for name, kind, events, end in wires:
        cells = []
        for size in (1, 8):
            taken, base = cost(Wire(kind, events, end, size), Wire("openai", *untouched, size), seconds)
            cells += [f"{taken:.2f}", f"{taken - base:.2f}"]
        sys.stdout.write(f"| {name} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
