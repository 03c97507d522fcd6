"""The sections of a run: the measurements of each section, and how the report shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import calls, runs
from benchmarks.bench import CORE, CPU, DIRECT, INSTRUCTIONS, RATE, STORE, Bench, column
from benchmarks.targets import BARE, CONTROL, FULL, NGINX

Pair = tuple[str, str]


@dataclass(frozen=True)
class Section:
    """One table. `ratios` and `differences` are pairs of columns that are compared within each repetition."""

    name: str
    title: str
    text: str
    measure: Callable[[Bench], None]
    columns: tuple[str, ...]
    ratios: tuple[Pair, ...] = ()
    differences: tuple[Pair, ...] = ()
    repeated: bool = True
    compared: bool = False
    """Whether a comparison with peers measures it too."""
    figures: tuple[str, ...] = ()
    """The figures of each target in a comparison; the first one is compared."""
    plotted: bool = False
    quick: bool = True
    """Whether a quick run measures it too."""


def _cpu(name: str) -> str:
    return column(name, CPU)


def _each(names: tuple[str, ...], *figures: str) -> tuple[str, ...]:
    return tuple(column(name, figure) for name in names for figure in figures)


_OURS = (FULL, BARE, NGINX)
_OF_NGINX = ((_cpu(FULL), _cpu(NGINX)), (_cpu(BARE), _cpu(NGINX)))
_COST = (*_each((*_OURS, STORE), CPU), column(FULL, RATE), column(FULL, CORE), column(FULL, INSTRUCTIONS), column(NGINX, INSTRUCTIONS))
_WORKERS = (runs.ONE_WORKER, runs.TWO_WORKERS, runs.NGINX_1, runs.NGINX_2)

SECTIONS = (
    Section(
        "idle",
        "Start and idle memory",
        "The time from the start of the process to its first correct answer, and the memory (PSS) one second later, while no other "
        "target runs.",
        runs.idle,
        _each(_OURS, runs.START, runs.IDLE),
        repeated=False,
        compared=True,
        figures=(runs.IDLE, runs.START),
        quick=False,
    ),
    Section(
        "control",
        "Control: nginx and nginx again",
        "Two equal processes should cost the same. The distance of their ratio from 1 shows how reliable the ratios of this run are.",
        calls.control,
        _each((NGINX, CONTROL), CPU),
        ((_cpu(CONTROL), _cpu(NGINX)),),
        compared=True,
        figures=(CPU,),
    ),
    Section(
        "json",
        "JSON calls",
        "CPU time per call, by the number of connections. A share of a core below 1 means that the target waits for its upstream, "
        "for Redis or for the load generator.",
        calls.json_calls,
        _COST,
        _OF_NGINX,
        compared=True,
        figures=(CPU, RATE, INSTRUCTIONS),
        plotted=True,
    ),
    Section(
        "sse",
        "Streams",
        "CPU time per stream of 51 events, which the upstream sends one by one without a pause.",
        calls.streams,
        _COST,
        _OF_NGINX,
        compared=True,
        figures=(CPU, RATE, INSTRUCTIONS),
        plotted=True,
    ),
    Section(
        "lone",
        "Events that arrive alone",
        "CPU time per event of 64 streams whose events come 20 ms apart, like the tokens of a model.",
        calls.lone_events,
        _each(_OURS, CPU),
        _OF_NGINX,
        compared=True,
        figures=(CPU,),
    ),
    Section(
        "bodies",
        "Large requests",
        "CPU time per JSON call. The tools, and the past turns of the agent, are the same in every request; the other texts have a new "
        "beginning, so their tokens are counted again.",
        calls.bodies,
        _each(_OURS, CPU),
        _OF_NGINX,
        compared=True,
        figures=(CPU, RATE),
    ),
    Section(
        "repair",
        "Streams that need repair",
        "CPU time per stream of 51 events with everything on, compared with an untouched stream measured just before. 32 connections.",
        calls.repairs,
        _each((calls.REPAIRED, calls.UNTOUCHED), CPU),
        ((_cpu(calls.REPAIRED), _cpu(calls.UNTOUCHED)),),
    ),
    Section(
        "apis",
        "Other APIs",
        "CPU time per call with everything on, compared with a chat completion measured just before. 32 connections.",
        calls.other_apis,
        _each((calls.CALL, calls.CHAT), CPU),
        ((_cpu(calls.CALL), _cpu(calls.CHAT)),),
    ),
    Section(
        "tls",
        "Upstreams with TLS",
        "CPU time per call through connections that stay open, with and without TLS to the upstream.",
        calls.tls,
        _each((calls.FULL_TLS, FULL, calls.NGINX_TLS, NGINX), CPU),
        ((_cpu(calls.FULL_TLS), _cpu(calls.NGINX_TLS)),),
        ((_cpu(calls.FULL_TLS), _cpu(FULL)),),
    ),
    Section(
        "fit",
        "Conversations that exceed the context window",
        "CPU time per JSON call with a conversation of 30,000 tokens in 200 messages, truncated to 8,000 tokens, and of the same call to a "
        "model without a limit. 4 connections.",
        calls.fit,
        _each((calls.FITTED, calls.WHOLE), CPU),
        ((_cpu(calls.FITTED), _cpu(calls.WHOLE)),),
    ),
    Section(
        "latency",
        "Added latency",
        "Latency of whole JSON calls. The differences are relative to calls without a proxy in the same repetition.",
        runs.latency,
        _each((DIRECT, NGINX, BARE, FULL), runs.LATENCY),
        differences=tuple((column(name, runs.LATENCY), column(DIRECT, runs.LATENCY)) for name in (NGINX, BARE, FULL)),
    ),
    Section(
        "prompts",
        "Long prompts with token limits",
        "A fixed rate of calls to a gateway on one core with everything on, which counts the tokens of each prompt. The health check of "
        "the admin listener, which shares the event loop, is requested 200 times per second at the same time: its latency shows how "
        "long the loop is blocked.",
        runs.prompts,
        (RATE, runs.P50, runs.P99, runs.PROBE_ALONE, runs.PROBE_P99),
    ),
    Section(
        "workers",
        "Workers",
        "The gateway, with everything on, is saturated by 64 connections. "
        "The workers, Redis, the mock and the load generator share all cores: nginx shows what more workers can gain there.",
        runs.workers,
        _each(_WORKERS, RATE, CPU),
        (
            (column(runs.TWO_WORKERS, RATE), column(runs.ONE_WORKER, RATE)),
            (column(runs.NGINX_2, RATE), column(runs.NGINX_1, RATE)),
        ),
        quick=False,
    ),
    Section(
        "harness",
        "Six workloads, ten connections, two workers",
        "Request rate, 99th percentile of the latency and memory under load. The workers, the mock and the load generator share all cores: "
        "nginx, with two workers, shows what this machine allows.",
        runs.harness,
        _each((FULL, BARE, NGINX), RATE, runs.P99, runs.MEMORY),
        quick=False,
    ),
    Section(
        "scale",
        "Many models and keys",
        "CPU time per JSON call with 10 models and 10 keys, and with more, for a model that is configured by its full name and "
        'for one that only `"*"` matches. 32 connections.',
        runs.scale,
        _each((runs.FEW, runs.MANY), CPU, runs.START),
        ((_cpu(runs.MANY), _cpu(runs.FEW)),),
        repeated=False,
        quick=False,
    ),
    Section(
        "slow",
        "Slow streams",
        "Memory (PSS) per stream, and times to the first byte and to the first content, of streams that are opened at the same time. The "
        "upstream sends its head at once, the first content after 0.5 s, together with the role, and 20 events in all, 0.5 s apart. "
        "nginx passes the head at once. The gateway sends its head with the first content, because until then it could still retry the "
        "call or fall back. The goal therefore compares the times to the first content, which include the 0.5 s of the upstream. "
        "All settings have their default values.",
        runs.slow_streams,
        _each(_OURS, runs.KIB, runs.CONTENT_P50, runs.CONTENT_P99, runs.FIRST_P50, runs.FIRST_P99),
        (
            (column(FULL, runs.CONTENT_P99), column(NGINX, runs.CONTENT_P99)),
            (column(FULL, runs.FIRST_P99), column(NGINX, runs.FIRST_P99)),
        ),
        repeated=False,
        compared=True,
        figures=(runs.KIB, runs.CONTENT_P50, runs.CONTENT_P99, runs.FIRST_P50, runs.FIRST_P99),
        quick=False,
    ),
)
"""The sections in the order of the report. Those at the beginning and at the end that are not repeated run before and after the
repetitions."""
