"""Measurements of the CPU time of calls. In each repetition, the targets take turns."""

from __future__ import annotations

from benchmarks import targets
from benchmarks.apis import CALLS
from benchmarks.bench import Bench
from benchmarks.bodies import CHAT_EVENTS, agent_turn, conversation, request_body, with_tools
from benchmarks.measure import cost
from benchmarks.processes import BrokenTargetError, Launch, Pace, Request
from benchmarks.targets import CONTROL, FULL, NGINX

JSON = Request(request_body(False))
SSE = Request(request_body(True), events=CHAT_EVENTS)
LONE = Request(request_body(True, "#delay=20000#"), events=CHAT_EVENTS)
CONNECTIONS = (1, 32, 256)
QUICK_CONNECTIONS = (32,)
HEAVY = 32
"""Slow peers are left out of JSON calls and streams with more connections."""
LONE_STREAMS = 64
LONE_ROW = "an event"
REPAIRS = {
    "object, created and index missing, role repeated": "#form=1#",
    "id, created and usage new in every chunk": "#form=2#",
    "no two chunks alike: each is decoded": "#form=3#",
}
"""Streams that need repair in every chunk."""
REPAIRED, UNTOUCHED = "repaired", "untouched"
CALL, CHAT = "the call", "chat completion"
FITTED, WHOLE = "fitted", "not fitted"
FULL_TLS, NGINX_TLS = "everything on, TLS", "nginx, TLS"


def control(bench: Bench) -> None:
    """Measure two equal nginx processes: their ratio shows how reliable the ratios of the run are."""
    for row, request in (("JSON c=32", JSON), ("SSE c=32", SSE)):
        bench.compare("control", row, [NGINX, CONTROL], request, 32)


def json_calls(bench: Bench) -> None:
    """Measure JSON calls."""
    for connections in QUICK_CONNECTIONS if bench.quick else CONNECTIONS:
        bench.compare("json", f"c={connections}", bench.names(heavy=connections > HEAVY), JSON, connections)


def streams(bench: Bench) -> None:
    """Measure streams whose events follow each other without a pause."""
    for connections in QUICK_CONNECTIONS if bench.quick else CONNECTIONS:
        bench.compare("sse", f"c={connections}", bench.names(heavy=connections > HEAVY), SSE, connections)


def lone_events(bench: Bench) -> None:
    """Measure the cost of an event that arrives alone: 64 streams whose events come 20 ms apart."""
    for name in bench.names():
        target = bench.target(name)
        if target:
            try:
                bench.add("lone", LONE_ROW, name, cost(bench.folder, target, LONE, Pace(LONE_STREAMS, bench.seconds)), CHAT_EVENTS)
            except BrokenTargetError as error:
                bench.refuse("lone", LONE_ROW, name, error)


def bodies(bench: Bench) -> None:
    """Measure large requests."""
    rows = {
        "20 tools, c=32": (Request(with_tools(False, 20)), 32),
        "the next turn of an agent, 75 KB, c=8": (Request(agent_turn(30, 1500)), 8),
        "70 KB, c=32": (Request(request_body(False, size=70_000)), 32),
        "1 MB, c=4": (Request(request_body(False, size=1_000_000)), 4),
    }
    for row, (request, connections) in rows.items():
        bench.compare("bodies", row, bench.names(), request, connections)


def _pair(bench: Bench, table: str, row: str, first: tuple[str, Request], second: tuple[str, Request], connections: int = 32) -> None:
    """Measure two requests on the gateway, one directly after the other."""
    target = bench.target(FULL)
    assert target
    for name, request in (second, first):
        bench.add(table, row, name, cost(bench.folder, target, request, Pace(connections, bench.seconds * 0.6)))


def repairs(bench: Bench) -> None:
    """Measure streams that need repair."""
    for row, form in REPAIRS.items():
        repaired = Request(request_body(True, form), events=CHAT_EVENTS)
        _pair(bench, "repair", row, (REPAIRED, repaired), (UNTOUCHED, SSE))


def other_apis(bench: Bench) -> None:
    """Measure the other APIs."""
    for row, call in CALLS.items():
        _pair(bench, "apis", row, (CALL, call.request), (CHAT, call.chat))


def tls(bench: Bench) -> None:
    """Measure upstreams that are reached with TLS."""
    port = bench.tls_front()
    if port is None:
        bench.figures.note("tls", "Not measured, because nginx or openssl is missing (Debian: apt install nginx-light openssl).")
        return

    def full() -> Launch:
        return targets.gateway(FULL_TLS, bench.place(FULL_TLS), more=targets.secure(bench.folder, port))

    ours = bench.target(FULL_TLS, full)
    nginx = bench.target(NGINX_TLS, lambda: targets.nginx(NGINX_TLS, bench.place(NGINX_TLS).folder, port, tls=True))
    assert ours
    for row, stream in (("JSON c=32", False), ("SSE c=32", True)):
        events = CHAT_EVENTS if stream else 0
        plain, secure = (Request(request_body(stream, model=model), events=events) for model in ("bench", "bench-tls"))
        bench.compare("tls", row, [FULL, NGINX], plain, 32)
        bench.add("tls", row, FULL_TLS, cost(bench.folder, ours, secure, Pace(32, bench.seconds)))
        if nginx:
            bench.add("tls", row, NGINX_TLS, cost(bench.folder, nginx, plain, Pace(32, bench.seconds)))


def fit(bench: Bench) -> None:
    """Measure conversations of 30,000 tokens that are truncated to 8,000, and the same conversations without truncation."""
    for row, new in (("the next turn of a conversation", False), ("a new conversation", True)):
        fitted, whole = (Request(conversation(model, 200, 640, new)) for model in ("bench-fit", "bench"))
        _pair(bench, "fit", row, (FITTED, fitted), (WHOLE, whole), connections=4)
