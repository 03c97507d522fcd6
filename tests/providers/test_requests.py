"""Every request of the conformance vectors is adapted and reported as the vectors expect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.providers.cases import Case, Sent, by_mode, differences, load, request_of, send_purely, settings_of
from tests.providers.gateway_process import Gateway, receipt_of, running, way_of
from tests.providers.server import Upstream
from tests.providers.wires import good_reply
from tests.support.each import each

CASES = list(by_mode(load("request_cases")))
CHATS = [case for case in CASES if (case[1].get("config") or {}).get("operation", "chat") == "chat"]
"""The vectors of chats. Those of the operation `logits` run only through the stages, because it has no chat route."""


def _way(case: Case) -> Any:
    return way_of(case["provider"], case["request"]["model"], settings_of(case))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    ways = list(dict.fromkeys(_way(case) for _, case, _ in CHATS))
    upstream = Upstream(lambda request: good_reply(ways[int(request.path.split("/")[1][1:])].kind, request))
    folder: Path = tmp_path_factory.mktemp("gateway")
    with running(ways, upstream, folder) as result:
        yield result
    upstream.close()


def send_by_http(gateway: Gateway, case: Case, strict: bool) -> Sent:
    """Run a case through the running gateway."""
    way = _way(case)
    response = gateway.ask(way, request_of(case), strict=strict)
    requests = sorted(gateway.upstream.taken(), key=lambda request: json.dumps(request.body.get("seed")))
    if response.status_code != 200:
        assert requests == [], "a refused request must not be sent"
        error = response.json()["error"]
        return Sent(error={"status": response.status_code, **{name: error[name] for name in ("type", "code", "param")}})
    of_the_answer = ("the upstream left the stop string in the text", "the gateway ended the text after the stop string")
    adjustments = [each for each in receipt_of(response)["adjustments"] if not each.get("why", "").startswith(of_the_answer)]
    return Sent(
        url=gateway.upstream_url(way, requests[0].path),
        headers=requests[0].headers,
        bodies=tuple(request.body for request in requests),
        adjustments=tuple({"from": None, "to": None, **adjustment} for adjustment in adjustments),
    )


@each(("case", "strict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_adapted_request_matches_the_vector(case: Case, strict: bool) -> None:
    assert differences(case, send_purely(case, strict)) == []


@each(("case", "strict"), [case[1:] for case in CHATS], ids=[case[0] for case in CHATS])
def test_running_gateway_sends_the_request_of_the_vector(gateway: Gateway, case: Case, strict: bool) -> None:
    assert differences(case, send_by_http(gateway, case, strict)) == []


def test_the_number_of_vectors() -> None:
    assert len(load("request_cases")) == 219
    assert len(load("response_cases")) == 31
