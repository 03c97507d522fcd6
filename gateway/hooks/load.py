"""Creates the hooks of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from gateway.config.hook import DenyConfig, GuardConfig, HookConfig, MaskConfig
from gateway.config.hook_check import load_object
from gateway.config.types import Config
from gateway.hooks.api import POINTS, Hook
from gateway.hooks.deny import DenyList
from gateway.hooks.guard import Guard
from gateway.hooks.masker import Masker
from gateway.hooks.run import LoadedHook
from gateway.upstream.transport import Deadlines, Origin, TlsFiles, Transport
from providers.base import WireRequest

DEFAULT_DEADLINE_S = 1.0
DEFAULT_GUARD_DEADLINE_S = 5.0
DEFAULT_TEXT_DEADLINE_S = 30.0
"""Default for the masker and the deny list, which need seconds for a request of 32 MiB."""
MAX_ANSWER_BYTES = 4 << 20


class GuardError(Exception):
    """The service of a guard did not answer with 200."""


def load_hooks(config: Config, transport: Transport) -> Sequence[LoadedHook]:
    """Return the hooks in their order. The transport sends the questions of guards."""
    return [_loaded(each, _hook(each, config.path, transport)) for each in config.hooks]


def loaded(hook: Hook, name: str = "hook", *, deadline_s: float = DEFAULT_DEADLINE_S) -> LoadedHook:
    """Return an object as a hook with the settings that the object declares."""
    points = frozenset(each for each in POINTS if getattr(getattr(hook, each), "__func__", None) is not getattr(Hook, each))
    return LoadedHook(name, hook, deadline_s, hook.failure, points)


def _loaded(config: HookConfig, hook: Hook) -> LoadedHook:
    default = DEFAULT_DEADLINE_S if config.use is not None else DEFAULT_TEXT_DEADLINE_S
    if config.guard is not None:
        default = DEFAULT_GUARD_DEADLINE_S
    made = loaded(hook, config.name, deadline_s=config.deadline or default)
    return made._replace(failure=config.failure or hook.failure)


def _hook(config: HookConfig, path: str, transport: Transport) -> Hook:
    included = config.included
    if isinstance(included, MaskConfig):
        return Masker(included)
    if isinstance(included, DenyConfig):
        return DenyList(included)
    if isinstance(included, GuardConfig):
        deadline_s = config.deadline or DEFAULT_GUARD_DEADLINE_S
        return Guard(included, partial(_post, included, transport, Deadlines(*[deadline_s] * 5)))
    found = load_object(config.use or "", config.options, path)
    assert isinstance(found, Hook)
    return found


async def _post(config: GuardConfig, transport: Transport, deadlines: Deadlines, body: bytes) -> bytes:
    """Send a question, and return the body of the answer. Raise GuardError if the status of the answer is not 200."""
    url = urlsplit(config.url.reveal())
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = {"content-type": "application/json", **{name.lower(): value.reveal() for name, value in config.headers.items()}}
    port = url.port or (443 if url.scheme == "https" else 80)
    response = await transport.send(
        Origin(url.scheme, url.hostname or "", port, None, TlsFiles(), None), WireRequest(path, [*headers.items()], body), deadlines
    )
    try:
        answer: bytes = await response.body(MAX_ANSWER_BYTES)
    finally:
        response.close()
    if response.status != 200:
        raise GuardError(f"status {response.status}")
    return answer
