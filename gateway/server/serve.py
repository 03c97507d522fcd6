"""One process that serves: listeners, engines, signals. Several workers are gateway.supervise's business."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial

import uvloop

from gateway.admin.app import build_admin
from gateway.admin.health import Health
from gateway.config import pem
from gateway.config.load import Config, ConfigError, Overrides
from gateway.config.source import Loaded, Source
from gateway.http.listener import ListenError, Server, bind, seat, server, shown
from gateway.runtime.gateway import Gateway
from gateway.runtime.reload import Follower, Outcome, Reloader
from gateway.runtime.resources import LOADING
from gateway.server.app import build_app
from gateway.server.drain import Ending, end_when_hurried, serve_until_told, watch_signals
from gateway.server.gc_tuning import spare_what_stays
from gateway.server.loop_watchdog import Watchdog
from gateway.telemetry.call_log import CallLog
from providers.local.distant import DistantEngine


def report(line: str) -> None:
    """One line for the operator."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def run(config_path: str, over: Overrides, *, workers: int = 1, log: str = "auto") -> int:
    """Serve until told to stop. The exit code: 0 after a clean end, 2 when the configuration or an address cannot be used."""
    source = Source(config_path, over)
    try:
        loaded = source.read()
        if workers > 1:
            from gateway.server.supervisor import supervise

            return supervise(source, loaded, workers, log)
        with bind(loaded.config.listen) as listener, bind(loaded.config.admin.listen) as admin:
            fetch_model(loaded.config)
            human = log == "human" or (log == "auto" and sys.stdout.isatty())
            code: int = uvloop.run(_serve(source, loaded, listener, admin, human))
            return code
    except (ConfigError, ListenError) as error:
        report(str(error))
        return 2


def fetch_model(config: Config) -> None:
    """Get the bundled model at the first start, where a local engine wants it; without it the gateway starts all the same."""
    if any(one.type == "local" and not one.options.get("model") for one in config.providers.values()):
        from providers.local import weights

        weights.prepare(report)


async def _serve(source: Source, loaded: Loaded, listener: socket.socket, admin_listener: socket.socket, human: bool) -> int:
    config = loaded.config
    gateway = Gateway(config, CallLog(1, human=human), report, seat=seat(listener))
    health = Health()
    reloader = Reloader(gateway, source, loaded)
    callers = callers_server(gateway)
    admin = server(build_admin(gateway, health, reloader), grace=1)
    gateway.health.doubt = partial(begin, reloader)
    reloader.followers += [renew_certificate(gateway, callers), _spare]
    await gateway.start()
    ending = Ending(health, gateway.metrics)
    ignore_signals = watch_signals(ending.signalled, lambda: begin(reloader))
    admin_task = asyncio.create_task(admin.serve([admin_listener]))
    serving = asyncio.create_task(serve_until_told(gateway, callers, listener, ending))
    announce(config, listener, admin_listener)
    spare_what_stays()
    health.serving = True
    watching = asyncio.create_task(reloader.watch())
    hurrying = asyncio.create_task(end_when_hurried(ending, admin))
    watchdog = Watchdog(report)
    watchdog.start()
    checking = asyncio.create_task(refuse_bad_model(gateway, ending.signalled))
    try:
        await serving
        admin.should_exit = True
        await admin_task
    finally:
        watchdog.stop()
        for task in (watching, checking, hurrying):
            task.cancel()
        await gateway.stop(ending.patience)
        ignore_signals()
    return 2 if checking.done() and not checking.cancelled() and checking.result() else 0


def callers_server(gateway: Gateway) -> Server:
    """The callers' listener, as configured."""
    config = gateway.config
    app = build_app(gateway)
    heads = partial(_head_time, gateway)
    refused = gateway.refused_at_the_edge
    return server(app, tls=config.tls, trusted_proxies=config.trusted_proxies, grace=None, heads=heads, refused=refused)


async def _spare(loaded: Loaded, number: int) -> None:
    spare_what_stays()


def _head_time(gateway: Gateway) -> float:
    return gateway.config.callers.headers


def begin(reloader: Reloader) -> None:
    """Look at the file again: SIGHUP, or a credential was refused that a file may have another one for by now."""
    task = asyncio.get_running_loop().create_task(reloader.reload())
    _reloads.add(task)
    task.add_done_callback(_reloads.discard)


_reloads: set[asyncio.Task[Outcome]] = set()
"""The event loop itself keeps only weak references to tasks."""


def renew_certificate(gateway: Gateway, callers: Server) -> Follower:
    """New connections get the certificate that the files have now."""

    async def renew(loaded: Loaded, number: int) -> None:
        load_certificate(gateway, callers)

    return renew


def load_certificate(gateway: Gateway, callers: Server) -> None:
    """Take certificate and key from where the configuration says, for the connections to come."""
    tls, context = gateway.config.tls, callers.config.ssl
    if tls is not None and context is not None:
        pem.load(context, tls)


async def refuse_bad_model(gateway: Gateway, end: Callable[[], None]) -> bool:
    """End the process when a model file that the configuration names cannot be used at all; whether it was so.

    Only at the start: a file that goes bad later leaves the gateway and its other providers up.
    """
    named = [engine for engine in gateway.generation.engines.values() if engine.options.model]
    for engine in named:
        if isinstance(engine, DistantEngine):
            continue
        await engine.settled(LOADING)
        if engine.code in ("bad_model", "missing_model"):
            report(f"{gateway.config.path}: the local engine's model cannot be used: {engine.reason}")
            end()
            return True
    return False


def announce(config: Config, listener: socket.socket, admin_listener: socket.socket) -> None:
    """Where we listen, and how to try it."""
    url = shown(listener, tls=config.tls is not None)
    names = [name for name in config.models if "*" not in name]
    model = "local" if "local" in names else names[0] if names else "MODEL"
    key = "YOUR-KEY" if config.asks_for_keys else "unused"
    auth = f" -H 'authorization: Bearer {key}'" if config.asks_for_keys else ""
    report(f"listening on {url}")
    report(f"admin on {shown(admin_listener)}  (/healthz /readyz /metrics /admin/config)")
    if config.asks_for_keys and not config.keys:
        report(f"keys are made at run time: lockgate key create --name NAME --admin {shown(admin_listener)}")
    message = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    report(f"\n  curl {url}/v1/chat/completions{auth} -H 'content-type: application/json' -d '{message}'")
    report(
        f"\n  python -c \"from openai import OpenAI; print(OpenAI(base_url='{url}/v1', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[{{'role': 'user', 'content': 'What is the capital of France?'}}]).choices[0].message.content)\"\n"
    )
