"""Measure the CPU time per chunk in the bare relay, in calls without stop strings and in calls with them: `python -m benchmarks.stops`."""

from __future__ import annotations

import argparse
import statistics
import time

from gateway.call import Call
from gateway.emulate.stops import StopStream
from gateway.streams.relay import Relay
from providers.base import Failure, StreamDecoder
from providers.usage import read_usage

CHUNKS = 2000
SIZE = 16384
"""Number of bytes that one read from a busy connection returns."""
STOPS = ("\n\nUser:", "<|end|>", "###", "Observation:")


def stream(chunks: int) -> bytes:
    """Return an upstream stream of one-word chunks."""
    head = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"mock","system_fingerprint":"fp_1","choices":'
    events = [f'{head}[{{"index":0,"delta":{{"content":"word{at} "}},"logprobs":null,"finish_reason":null}}]}}' for at in range(chunks)]
    events.append(f'{head}[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}]}}')
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"]).encode()


def decoder_of(call: Call) -> StreamDecoder | None:
    """Return the filter that a call adds to the relay, or None if the call has no stop strings."""
    return StopStream(None, call.stops, 1, keep=call.keeps_stop) if call.stops else None


def once(wire: bytes, decoder: StreamDecoder | None, size: int) -> float:
    """Return the CPU time of one stream in seconds."""
    relay = Relay(decoder=decoder, usage_asked=False, read_usage=read_usage, fail=lambda data: Failure("inband_error", "no"))
    began = time.process_time()
    sent = sum(len(relay.feed(wire[at : at + size])) for at in range(0, len(wire), size)) + len(relay.end())
    spent = time.process_time() - began
    if sent + len(b"data: [DONE]\n\n") < 0.6 * len(wire):
        raise SystemExit("the stream was not relayed")
    return spent


def main() -> None:
    """Measure the three variants alternately and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stops", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=41)
    repetitions = parser.parse_args().repetitions
    plain, stopped = Call("chat", "/v1/chat/completions"), Call("chat", "/v1/chat/completions")
    stopped.stops = STOPS
    wire = stream(CHUNKS)
    for size, name in ((SIZE, f"{SIZE >> 10} KiB at a time"), (len(wire) // CHUNKS, "one chunk at a time")):
        spent: dict[str, list[float]] = {"bare relay": [], "without stops": [], f"with {len(STOPS)} stops": []}
        for _ in range(repetitions):
            for label, decoder in zip(spent, (None, decoder_of(plain), decoder_of(stopped)), strict=True):
                spent[label].append(once(wire, decoder, size) / CHUNKS * 1e6)
        print(f"CPU per chunk, {name}:")
        bare = statistics.median(spent["bare relay"])
        for label, values in spent.items():
            middle = statistics.median(values)
            print(f"  {label:14} {middle:6.2f} us  {middle / bare:5.2f} x bare relay")


if __name__ == "__main__":
    main()
