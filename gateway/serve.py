"""One process that serves: listeners, engines, signals. Several workers are gateway.supervise's business."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable

import uvloop

from gateway import config as configuration
from gateway.admin.app import build_admin
from gateway.admin.health import Health
from gateway.app import build_app
from gateway.build import Gateway
from gateway.calllog import CallLog
from gateway.config import Config, ConfigError
from gateway.listeners import ListenError, Server, bind, server, shown
from providers.local.distant import DistantEngine

LOADING = 600.0
"""Seconds after which a model that still loads is taken for a good one."""
DRAIN = 30
"""Seconds that open calls get after the first SIGTERM."""
LAST_WORDS = 1.0
"""Seconds that they get to end once that time is over, or after the second."""


def report(line: str) -> None:
    """One line for the operator."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def run(
    config_path: str,
    *,
    host: str | None = None,
    port: int | None = None,
    admin_port: int | None = None,
    workers: int = 1,
    log: str = "auto",
) -> int:
    """Serve until told to stop. The exit code: 0 after a clean end, 2 when the configuration or an address cannot be used."""
    try:
        config = configuration.load(config_path, host=host, port=port, admin_port=admin_port)
        if workers > 1:
            from gateway.supervise import supervise

            return supervise(config, workers, log)
        with bind(config.listen) as listener, bind(config.admin.listen) as admin:
            fetch_model(config)
            human = log == "human" or (log == "auto" and sys.stdout.isatty())
            code: int = uvloop.run(_serve(config, listener, admin, human))
            return code
    except (ConfigError, ListenError) as error:
        report(str(error))
        return 2


def fetch_model(config: Config) -> None:
    """Get the bundled model at the first start, where a local engine wants it; without it the gateway starts all the same."""
    if any(one.type == "local" and not one.options.get("model") for one in config.providers.values()):
        from providers.local import weights

        weights.prepare(report)


async def _serve(config: Config, listener: socket.socket, admin_listener: socket.socket, human: bool) -> int:
    gateway = Gateway(config, CallLog(1, human=human), report)
    health = Health()
    callers = server(build_app(gateway), tls=config.tls, trusted_proxies=config.trusted_proxies, grace=DRAIN)
    admin = server(build_admin(gateway, health), grace=1)
    await gateway.start()
    stop = watch_signals(lambda: drain(health, callers), lambda: force(callers, admin))
    admin_task = asyncio.create_task(admin.serve([admin_listener]))
    callers_task = asyncio.create_task(callers.serve([listener]))
    announce(config, listener, admin_listener)
    health.serving = True
    checking = asyncio.create_task(refuse_bad_model(gateway, lambda: drain(health, callers)))
    try:
        await callers_task
        await end_calls(callers)
        admin.should_exit = True
        await admin_task
    finally:
        stop()
        checking.cancel()
        await gateway.stop()
    return 2 if checking.done() and not checking.cancelled() and checking.result() else 0


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


def drain(health: Health, callers: Server) -> None:
    """First signal: no new calls, those in flight may end."""
    health.draining = True
    callers.should_exit = True


def force(*servers: Server) -> None:
    """Second signal: end at once."""
    for one in servers:
        one.should_exit = one.force_exit = True


async def end_calls(callers: Server) -> None:
    """End the calls that outlived their server, so that each tells its caller and the log before the process goes."""
    left = list(callers.server_state.tasks)
    for call in left:
        call.cancel()
    if left:
        await asyncio.wait(left, timeout=LAST_WORDS)


def watch_signals(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """Call `first` on the first SIGTERM or SIGINT and `second` on every later one; returns what undoes it."""
    loop = asyncio.get_running_loop()
    seen = 0

    def arrived() -> None:
        nonlocal seen
        seen += 1
        (first if seen == 1 else second)()

    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, arrived)

    def undo() -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(one)

    return undo


def announce(config: Config, listener: socket.socket, admin_listener: socket.socket) -> None:
    """Where we listen, and how to try it."""
    url = shown(listener, tls=config.tls is not None)
    names = [name for name in config.models if "*" not in name]
    model = "local" if "local" in names else names[0] if names else "MODEL"
    key = "YOUR-KEY" if config.keys else "unused"
    auth = f" -H 'authorization: Bearer {key}'" if config.keys else ""
    report(f"listening on {url}")
    report(f"admin on {shown(admin_listener)}  (/healthz /readyz /metrics)")
    message = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'
    report(f"\n  curl {url}/v1/chat/completions{auth} -H 'content-type: application/json' -d '{message}'")
    report(
        f"\n  python -c \"from openai import OpenAI; print(OpenAI(base_url='{url}/v1', api_key='{key}').chat.completions.create("
        f"model='{model}', messages=[{{'role': 'user', 'content': 'What is the capital of France?'}}]).choices[0].message.content)\"\n"
    )
