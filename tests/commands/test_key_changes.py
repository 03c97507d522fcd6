"""`lockgate key update`, `rotate`, `enable` and `disable` against a running gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.commands import cli as command
from gateway.commands.key_changes import limit_changes
from tests.flows.live import live

YAML = """
providers:
  up: { type: openai-compatible, base_url: "http://127.0.0.1:9/v1", prices: { "*": { prompt: 1, output: 2 } } }
models:
  m: up/mock
keys:
  first: { hash: "sha256:5b1a3c1f1d6a7b2e9c0d4f8a6e3b5c7d9f1e2a4b6c8d0e1f2a3b4c5d6e7f8091" }
journal: "off"
"""
Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def run(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Run]:
    """Return a function that runs a command at a gateway and returns its exit code, its output and its error output."""
    async with live(YAML) as gateway:

        async def run(*args: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(command.run, [*args, "--admin", gateway.admin_url])
            printed = capsys.readouterr()
            return code, printed.out, printed.err

        yield run


async def test_an_update_keeps_all_other_settings_and_says_what_it_changed(run: Run) -> None:
    await run("key", "create", "--name", "app", "--limits", "requests=600/min,spend=5 USD/day", "--models", "m")
    code, out, _ = await run("key", "update", "app", "--limits", "requests=5/min,spend=none", "--models", "none", "--strict")
    assert code == 0
    assert out.splitlines() == [
        'models: removed (was ["m"])',
        "limits.spend: removed (was 5 USD/day)",
        "limits.requests: 600/min -> 5/min",
        "strict: added (true)",
        "app is updated",
    ]
    _, out, _ = await run("key", "list")
    assert out.splitlines()[1].split("\t")[3:] == ["valid", "-", "*", "requests 5/min", "-"]


async def test_an_update_names_the_models_that_it_takes_away_and_the_restriction_that_it_lifts(run: Run) -> None:
    await run("key", "create", "--name", "app", "--models", "m,m*", "--limits", "requests=600/min")
    _, out, _ = await run("key", "update", "app", "--models", "m", "--limits", "requests=none")
    assert out.splitlines() == [
        "models.m*: removed (was m*)",
        "limits.requests: removed (was 600/min)",
        'models: ["m","m*"] -> ["m"]',
        "app is updated",
    ]
    _, out, _ = await run("key", "update", "app", "--models", "none")
    assert out.splitlines() == ['models: removed (was ["m"])', "app is updated"]
    _, out, _ = await run("key", "update", "app", "--models", "m", "--limits", "requests=1/s")
    assert out.splitlines() == ['models: added (["m"])', "limits.requests: added (1/s)", "app is updated"]


async def test_a_list_shows_what_is_spent_of_a_budget(run: Run) -> None:
    await run("key", "create", "--name", "app", "--limits", "spend=5 USD/total")
    _, out, _ = await run("key", "list")
    assert out.splitlines()[1].split("\t")[-1] == "spent 0.0000 of 5 USD in total"


async def test_a_rotated_key_is_printed_once_with_the_end_of_the_old_one(run: Run) -> None:
    await run("key", "create", "--name", "app")
    code, out, err = await run("key", "rotate", "app", "--grace", "1h")
    assert (code, out.startswith("lg-"), "The old key is valid until 2" in err) == (0, True, True)
    _, again, err = await run("key", "rotate", "app", "--grace", "0s")
    assert again != out
    assert "The old key is valid until" in err  # the previous secret, whose grace period has not ended


async def test_a_key_is_disabled_and_enabled(run: Run) -> None:
    await run("key", "create", "--name", "app")
    assert (await run("key", "disable", "app"))[:2] == (0, "app is disabled\n")
    assert "\tdisabled\t" in (await run("key", "list"))[1]
    assert (await run("key", "enable", "app"))[:2] == (0, "app is enabled\n")
    assert "\tdisabled\t" not in (await run("key", "list"))[1]


async def test_mistakes_are_one_line(run: Run) -> None:
    for args, code, error in (
        (("key", "update", "app"), 2, "nothing to change: give at least one option"),
        (("key", "update", "app", "--strict"), 1, "Unknown key 'app'."),
        (("key", "rotate", "first"), 1, "The key 'first' is defined in the configuration."),
        (("key", "disable", "first"), 1, "The key 'first' is defined in the configuration."),
        (("key", "update", "app", "--models", ""), 2, "'--models': the value is empty"),
        (("key", "update", "app", "--limits-per-user", ","), 2, "'--limits-per-user': the value is empty"),
        (("team", "update", "t", "--limits", " "), 2, "'--limits' / '-l': the value is empty"),
    ):
        found, out, err = await run(*args)
        assert (found, out, error in err, len(err.splitlines())) == (code, "", True, 1)


def test_none_removes_a_limit() -> None:
    assert limit_changes(("requests=5/min,spend=none", "concurrent=none")) == {"requests": "5/min", "spend": None, "concurrent": None}


async def test_a_priority_is_set_changed_and_removed(run: Run) -> None:
    await run("team", "create", "batch", "--priority", "20")
    await run("key", "create", "--name", "app", "--priority", "300")
    assert (await run("key", "update", "app", "--priority", "50"))[1].splitlines() == ["priority: 300 -> 50", "app is updated"]
    assert (await run("key", "update", "app", "--priority", "none"))[1].splitlines()[0] == "priority: removed (was 50)"
    code, _, error = await run("team", "update", "batch", "--priority", "high")
    assert (code, "'high' is not a whole number" in error) == (2, True)
    assert (await run("team", "update", "batch", "--priority", "30"))[1].splitlines()[0] == "priority: 20 -> 30"
