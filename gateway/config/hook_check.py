"""Checks of `hooks`: each entry is one hook that can be loaded."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config.extras import has_extra, install_command
from gateway.config.formats import Address
from gateway.config.hook import DenyConfig, GuardConfig, HookConfig
from gateway.config.problem import Problems
from gateway.config.types import Config

MAX_DEADLINE_S = 60.0
BASE_CLASS = "gateway.hooks.api.Hook"
_USE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def check_hooks(config: Config, problems: Problems) -> None:
    """Refuse entries that are not exactly one hook, and hooks that cannot be loaded."""
    for index, hook in enumerate(config.hooks):
        where = f"hooks[{index}]"
        kinds = [name for name in ("use", "mask", "guard", "deny") if getattr(hook, name) is not None]
        if len(kinds) != 1:
            what = f"has {' and '.join(kinds)}" if kinds else "has none"
            problems.add_at_path(where, f"expected one of use, mask, guard and deny, but this entry {what}: write one entry for each hook")
            continue
        if hook.options and hook.use is None:
            problems.add_at_path(f"{where}.options", f"only 'use' has options: write the settings below {kinds[0]}")
        if hook.deadline is not None and hook.deadline > MAX_DEADLINE_S:
            problems.add_at_path(f"{where}.deadline", f"must be at most {MAX_DEADLINE_S:g}s, because callers wait for the hook")
        _check_kind(config, hook, where, problems)


def _check_kind(config: Config, hook: HookConfig, where: str, problems: Problems) -> None:
    if hook.use is not None:
        try:
            load_object(hook.use, hook.options, config.path)
        except ValueError as error:
            problems.add_at_path(f"{where}.use" if problems.is_written(f"{where}.use") else where, str(error))
    elif hook.mask is not None and not hook.mask.kinds:
        problems.add_at_path(f"{where}.mask.kinds", "the list is empty: name at least one kind, or remove kinds to mask all")
    elif hook.guard is not None:
        _check_guard(hook.guard, where, problems)
    elif hook.deny is not None:
        _check_deny(hook.deny, where, problems)


def _check_guard(guard: GuardConfig, where: str, problems: Problems) -> None:
    url = urlsplit(guard.url.reveal())
    if url.scheme == "http" and not guard.allow_http and not Address(url.hostname or "", 0).is_loopback:
        problems.add_at_path(f"{where}.guard.url", "the URL is not https: use https, or set allow_http: true")
    if guard.model is not None and guard.format != "moderations":
        problems.add_at_path(f"{where}.guard.model", "has an effect only with format: moderations")
    if not guard.checks:
        problems.add_at_path(f"{where}.guard.checks", "the list is empty: name input, output or both")


def _check_deny(deny: DenyConfig, where: str, problems: Problems) -> None:
    if not deny.words and not deny.patterns:
        problems.add_at_path(f"{where}.deny", "the list is empty: add words or patterns")
    if not deny.checks:
        problems.add_at_path(f"{where}.deny.checks", "the list is empty: name input, output or both")
    for index, word in enumerate(deny.words):
        if not word.strip():
            problems.add_at_path(f"{where}.deny.words[{index}]", "expected a word or phrase, got nothing")
    for index, pattern in enumerate(deny.patterns):
        if (problem := pattern_problem(pattern)) is not None:
            problems.add_at_path(f"{where}.deny.patterns[{index}]", problem)


def pattern_problem(pattern: str) -> str | None:
    """Return the fault of an RE2 pattern, or None."""
    if not has_extra("patterns"):
        return f"requires packages that are not installed: {install_command('patterns')}"
    import re2  # type: ignore[import-not-found, import-untyped, unused-ignore]

    options = re2.Options()
    options.log_errors = False
    try:
        is_empty_match = re2.compile(pattern, options).search("") is not None
    except re2.error as error:
        reason = error.args[0]
        return f"not a regular expression of RE2: {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
    return "matches the empty text: require at least one character" if is_empty_match else None


def load_object(use: str, options: Mapping[str, Any], config_path: str) -> object:
    """Return the object that `MODULE:OBJECT` names; a class is called with the options.

    The module is searched for on Python's path, then in the folder of the configuration. Raise ValueError with the reason if
    there is no such hook or if it cannot be loaded.
    """
    if _USE.fullmatch(use) is None:
        raise ValueError("expected MODULE:OBJECT, for example team_rules:TopicRule")
    module_name, _, name = use.partition(":")
    folder = str(Path(config_path).absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        advice = f"install it, or put it into {folder}"
        raise ValueError(f"the module '{error.name}' is not found: {advice}") from None
    except Exception as error:  # a module may raise any exception while it is imported
        raise ValueError(f"the module '{module_name}' cannot be imported: {type(error).__name__}: {error}") from None
    found = getattr(module, name, None)
    if found is None:
        raise ValueError(f"the module '{module_name}' has no '{name}'")
    if isinstance(found, type):
        try:
            found = found(**options)
        except Exception as error:
            raise ValueError(f"'{use}' cannot be created with these options: {type(error).__name__}: {error}") from None
    elif options:
        raise ValueError(f"'{use}' is an object, and only a class has options: remove options")
    if not any(f"{base.__module__}.{base.__qualname__}" == BASE_CLASS for base in type(found).__mro__):
        raise ValueError(f"'{use}' is not a hook: derive its class from {BASE_CLASS}")
    if found.failure not in ("open", "closed"):
        raise ValueError(f"'{use}' declares an unknown 'failure': write open or closed")
    return found
