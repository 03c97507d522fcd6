"""Startup messages."""

from __future__ import annotations

import re
import shlex

import pytest

from gateway.config.formats import Address
from gateway.config.load import parse
from gateway.http.listener import bind
from gateway.server.startup import announce

YAML = "providers:\n  up: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}\nmodels:\n  fast: up/mock\n"


def test_the_printed_command_calls_a_configured_model_at_the_real_address(capfd: pytest.CaptureFixture[str]) -> None:
    with bind(Address("127.0.0.1", 0)) as listener, bind(Address("127.0.0.1", 0)) as admin:
        announce(parse(YAML.encode(), "gateway.yaml", environ={}), listener, admin)
        url, admin_url = (f"http://127.0.0.1:{each.getsockname()[1]}" for each in (listener, admin))
    printed = capfd.readouterr().err
    assert f"listening on {url}\n" in printed
    assert f"page on {admin_url}/\n" in printed
    assert f"admin on {admin_url}  " in printed
    command = re.search(r"^  (curl .*)$", printed, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1])
    assert words[1] == f"{url}/v1/chat/completions"
    assert '"model": "fast"' in words[-1]
