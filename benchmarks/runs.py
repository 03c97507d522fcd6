"""The measurements of memory, latency, workers and large configurations."""

from __future__ import annotations

import re
import time

from benchmarks import targets
from benchmarks.apis import messages, responses
from benchmarks.bench import CPU, DIRECT, RATE, Bench, column
from benchmarks.bodies import CHAT_EVENTS, request_body
from benchmarks.measure import cost, memory_kib
from benchmarks.processes import (
    ALL_CORES,
    LOAD_CORE,
    BrokenTargetError,
    Launch,
    Pace,
    Request,
    Target,
    finish_load,
    run_load,
    start_load,
    start_target,
    stop,
)
from benchmarks.targets import BARE, FULL, NGINX

START, IDLE = "start, s", "idle, MB"
KIB, FIRST_P50, FIRST_P99 = "KiB per stream", "first byte p50, ms", "first byte p99, ms"
CONTENT_P50, CONTENT_P99 = "first content p50, ms", "first content p99, ms"
P50, P99 = "p50, ms", "p99, ms"
LATENCY = "ms"
ALONE = "alone on the machine"
MEMORY = "PSS, MB"
PROBE_ALONE, PROBE_P99 = "health check without load, p99, ms", "health check, p99, ms"
ONE_WORKER, TWO_WORKERS = "1 worker", "2 workers"
NGINX_1, NGINX_2 = f"{NGINX}, {ONE_WORKER}", f"{NGINX}, {TWO_WORKERS}"
FEW, MANY = "10", "more"
SLOW_STREAMS, SLOW_EVENTS, SLOW_DELAY_S = 2000, 20, 0.5
PROMPT_BYTES, PROMPT_RATE, PROBE_RATE = 400_000, 100, 200
SCALES = {
    "10,000 models": (10_000, 10),
    "100,000 models": (100_000, 10),
    "10,000 keys": (10, 10_000),
    "100,000 keys": (10, 100_000),
}
SCALE_REPETITIONS = 7
"""The goal is the highest of eight medians. With three repetitions, one of them may exceed the limit by chance."""
LARGE_START_S = 60


def megabytes(target: Target) -> float:
    """Return the memory of a target (PSS) in MB."""
    return memory_kib(target.process.pid) * 1024 / 1e6


def idle(bench: Bench) -> None:
    """Measure the start and the memory after one second without load. No other target runs, because PSS divides shared pages."""
    for name in bench.names() * (1 if bench.quick or bench.peers else 3):
        with bench.alone(name) as target:
            if target:
                time.sleep(1)
                bench.figures.add("idle", ALONE, column(name, START), target.started)
                bench.figures.add("idle", ALONE, column(name, IDLE), megabytes(target))


def slow_streams(bench: Bench) -> None:
    """Measure memory and the times to the first byte and content of many slow streams, at the default settings. All must complete."""
    count = SLOW_STREAMS // 10 if bench.quick else SLOW_STREAMS
    text = f"#chunks={SLOW_EVENTS}##delay={SLOW_DELAY_S * 1e6:.0f}#"
    request = Request(request_body(True, text), events=SLOW_EVENTS)
    row = f"{count:,} streams of 10 s"
    for name in bench.names(heavy=True):
        with bench.alone(name) as target:
            if target is None:
                continue
            before = memory_kib(target.process.pid)
            loading = start_load(bench.folder, target, request, Pace(count, 60, times=1))
            time.sleep(SLOW_EVENTS * SLOW_DELAY_S * 0.7)
            during = memory_kib(target.process.pid)
            try:
                load = finish_load(loading, target, request)
            except BrokenTargetError as error:
                bench.refuse("slow", row, name, error)
                continue
            for figure, value in (
                (KIB, (during - before) / count),
                (FIRST_P50, load.first_p50_ms),
                (FIRST_P99, load.first_p99_ms),
                (CONTENT_P50, load.content_p50_ms),
                (CONTENT_P99, load.content_p99_ms),
            ):
                bench.figures.add("slow", row, column(name, figure), value)


def _unpinned(bench: Bench, name: str, workers: int, *, full: bool = True) -> Target:
    """Return a gateway whose workers, mock upstream and load generator run on all cores."""

    def launch() -> Launch:
        return targets.gateway(name, bench.place(name, ALL_CORES), full=full, workers=workers, cores=ALL_CORES)

    target = bench.target(name, launch)
    assert target
    return target


def _unpinned_nginx(bench: Bench, workers: int) -> Target | None:
    """Return an nginx whose workers, mock upstream and load generator run on all cores, or None if nginx is not installed."""
    name = f"{NGINX} {workers}"

    def launch() -> Launch | None:
        place = bench.place(name, ALL_CORES)
        return targets.nginx(name, place.folder, place.upstream, workers=workers, cores=ALL_CORES)

    return bench.target(name, launch)


def workers(bench: Bench) -> None:
    """Measure one and two workers, and those of nginx, under as much load as they can take.

    The mock and the load generator use the same cores.
    """
    for row, request in (("JSON c=64", Request(request_body(False))), ("SSE c=64", Request(request_body(True), events=CHAT_EVENTS))):
        for name, plain_name, count in ((ONE_WORKER, NGINX_1, 1), (TWO_WORKERS, NGINX_2, 2)):
            target = _unpinned(bench, name, count)
            bench.add("workers", row, name, cost(bench.folder, target, request, Pace(64, bench.seconds), ALL_CORES))
            if plain := _unpinned_nginx(bench, count):
                bench.add("workers", row, plain_name, cost(bench.folder, plain, request, Pace(64, bench.seconds), ALL_CORES))


def harness(bench: Bench) -> None:
    """Measure six workloads with ten connections and two workers: request rate, 99th percentile and memory under load."""
    variants = {
        FULL: _unpinned(bench, TWO_WORKERS, 2),
        BARE: _unpinned(bench, f"{TWO_WORKERS}, {BARE}", 2, full=False),
        NGINX: _unpinned_nginx(bench, 2),
    }
    for variant, target in variants.items():
        if target is None:
            continue
        for form, stream in (("JSON", False), ("SSE", True)):
            chat = Request(request_body(stream), events=CHAT_EVENTS if stream else 0)
            native = variant == NGINX  # the gateway translates these calls, nginx cannot
            others = responses(stream, native=native).request, messages(stream, native=native).request
            for row, request in zip(("chat", "responses", "messages"), (chat, *others), strict=True):
                spent = cost(bench.folder, target, request, Pace(10, bench.seconds), ALL_CORES)
                for figure, value in ((RATE, spent.load.per_second), (P99, spent.load.p99_ms), (MEMORY, megabytes(target))):
                    bench.figures.add("harness", f"{row} {form}", column(variant, figure), value)


def scale(bench: Bench) -> None:
    """Measure the CPU time of a call, and the start of the gateway, each with few models and keys, and with many models or keys."""
    with_few = bench.target("few", lambda: _scaled(bench, "few", 10, 10))
    assert with_few
    for row, (models, keys) in SCALES.items():
        if bench.quick and max(models, keys) > 10_000:
            continue
        launch = _scaled(bench, row, models, keys)
        launch.deadline = LARGE_START_S
        try:
            with_many = start_target(bench.folder, launch)
        except BrokenTargetError as error:
            bench.figures.note("scale", f"{row}: the gateway does not start ({_reason(error)}).")
            continue
        try:
            for name, target in ((FEW, with_few), (MANY, with_many)):
                bench.figures.add("scale", f"{row}, exact name", column(name, START), target.started)
            _compare_scales(bench, row, with_few, with_many)
        finally:
            stop(with_many.process)


def _compare_scales(bench: Bench, row: str, with_few: Target, with_many: Target) -> None:
    """Measure both in turn. The first measurement is discarded: a process that has just started takes more time for its first calls."""
    pair, discarded = [(FEW, with_few), (MANY, with_many)], 0 if bench.quick else 1
    for repetition in range(1 if bench.quick else discarded + SCALE_REPETITIONS):
        for form, model in (("exact name", "bench"), ('through "*"', "some-other-name")):
            request = Request(request_body(False, model=model))
            for name, target in pair if repetition % 2 else reversed(pair):
                spent = cost(bench.folder, target, request, Pace(32, bench.seconds * 0.6))
                if repetition >= discarded:
                    bench.figures.add("scale", f"{row}, {form}", column(name, CPU), spent.microseconds)


def _reason(error: BrokenTargetError) -> str:
    """Return the last line that a target printed, without the file name and the line of its configuration."""
    return re.sub(r"^.*gateway\.yaml:\S* ", "", str(error).splitlines()[-1])[:300]


def _scaled(bench: Bench, name: str, models: int, keys: int) -> Launch:
    return targets.gateway(name, bench.place(name), more=targets.many(models, keys))


def latency(bench: Bench) -> None:
    """Measure the latency that a proxy adds: at a fixed low rate, and with 16 callers of an upstream that takes 20 ms."""
    quiet, waiting = Request(request_body(False)), Request(request_body(False, "#delay=20000#"))
    seconds = 1.0 if bench.quick else 6.0
    paces = {
        "25 requests/s": (quiet, Pace(4, seconds, rate=25)),
        "16 callers, upstream of 20 ms": (waiting, Pace(16, seconds / 3)),
    }
    for row, (request, pace) in paces.items():
        for name in (DIRECT, NGINX, FULL, BARE):
            target = bench.direct() if name == DIRECT else bench.target(name)
            if target:
                load = run_load(bench.folder, target, request, pace)
                for figure, value in (("p50", load.p50_ms), ("p99", load.p99_ms)):
                    bench.figures.add("latency", f"{row}: {figure}", column(name, LATENCY), value)


def prompts(bench: Bench) -> None:
    """Measure 100 prompts of 400 KB per second with token limits: whether all are answered, and how long they block the event loop.

    The admin listener uses the same event loop, so the latency of its health check is the delay of the loop plus the time of the check.
    """
    target = bench.target(FULL)
    assert target
    request, row = Request(request_body(False, size=PROMPT_BYTES)), f"{PROMPT_RATE} prompts/s of {PROMPT_BYTES // 1000} KB"
    seconds = 1.5 if bench.quick else 4.0
    probe, health = Target("the health check", target.admin_port, target.process, 0), Request(b"", "/healthz")
    probing = Pace(4, seconds, rate=PROBE_RATE)
    alone = run_load(bench.folder, probe, health, probing)
    run_load(bench.folder, target, request, Pace(16, 0.3, rate=PROMPT_RATE))
    loading = start_load(bench.folder, target, request, Pace(64, seconds, rate=PROMPT_RATE), LOAD_CORE)
    stalls = run_load(bench.folder, probe, health, probing)
    load = finish_load(loading, target, request)
    for figure, value in (
        (RATE, load.per_second),
        (P50, load.p50_ms),
        (P99, load.p99_ms),
        (PROBE_ALONE, alone.p99_ms),
        (PROBE_P99, stalls.p99_ms),
    ):
        bench.figures.add("prompts", row, figure, value)
