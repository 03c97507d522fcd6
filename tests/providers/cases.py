"""The conformance vectors: expected upstream requests and expected answers to the caller.

`send_purely` runs the stages of a case without a server. `send_by_http` in test_requests.py sends the case to a running gateway.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

import providers
from gateway.dialects.parameters import check_parameters
from gateway.errors import BadRequest
from providers.base import Body, Options, Refusal, Target
from providers.rules.fan_out import fan_out, seeds_sent

FIXTURES = Path(__file__).parent.parent / "fixtures"
TYPES = {"openai_reasoning": "openai", "azure_openai": "azure", "gemini_openai": "gemini"}
"""Names of providers in the vectors that differ from the gateway's types."""
BASES = {"azure": "https://RESOURCE.openai.azure.com/openai/v1"}
Case = dict[str, Any]


class Sent(NamedTuple):
    """The request that is sent upstream, or the refusal."""

    url: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    bodies: tuple[dict[str, Any], ...] = ()
    adjustments: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] | None = None


@cache
def read_fixture(name: str) -> dict[str, Any]:
    """Return the content of a YAML file in tests/fixtures. It is parsed once, by libyaml where PyYAML has it."""
    content: dict[str, Any] = yaml.load((FIXTURES / name).read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return content


def load(section: str) -> list[Case]:
    """Load the cases of one section of the vectors. Each call returns its own copy."""
    cases: list[Case] = copy.deepcopy(read_fixture("normalization-cases.yaml")[section])
    return cases


def by_mode(cases: list[Case]) -> Iterator[tuple[str, Case, bool]]:
    """Yield each case once for each of its modes: (id, case, strict)."""
    for case in cases:
        for mode in ("strict", "lenient") if case["mode"] == "both" else (case["mode"],):
            yield f"{case['name']}-{mode}", case, mode == "strict"


def request_of(case: Case) -> dict[str, Any]:
    """Return the request of a case, with its generated tools."""
    request = dict(case["request"])
    count = (case.get("generate") or {}).get("tools", 0)
    if count:
        parameters = {"type": "object", "properties": {}}
        request["tools"] = [{"type": "function", "function": {"name": f"f{index}", "parameters": parameters}} for index in range(count)]
    return request


def settings_of(case: Case) -> dict[str, Any]:
    """Return the provider settings of a case."""
    config = dict(case.get("config") or {})
    config.pop("operation", None)
    if config.pop("azure_api", None) == "classic":
        config |= {"api": "classic", "api_version": "DATE"}
    return config


def target_of(provider: str, model: str, settings: dict[str, Any] | None = None) -> Target:
    """Return a target at the provider's default address with the credential KEY."""
    kind = TYPES.get(provider, provider)
    result = providers.get(kind)
    base = BASES.get(kind, result.default_base_url) or "http://localhost:1/v1"
    if settings and settings.get("api") == "classic":
        base = base.removesuffix("/v1")
    return Target(f"{kind}/{model}", kind, result, model, base, "KEY", options=settings or {})


def send_purely(case: Case, strict: bool) -> Sent:
    """Run the stages normalize, adapt and encode, without a server."""
    body = Body(json.dumps(request_of(case)).encode())
    target = target_of(case["provider"], case["request"]["model"], settings_of(case))
    operation = (case.get("config") or {}).get("operation", "chat")
    options = Options(strict=strict, stream=case["request"].get("stream", False), operation=operation)
    try:
        check_parameters(body)
        adjustments = target.kind.adapt(body, target, options)
    except (Refusal, BadRequest) as error:
        return Sent(error={"status": 400, "type": "invalid_request_error", "code": error.code, "param": error.param})
    calls = next((adjustment.from_ for adjustment in adjustments if adjustment.action == "fan_out"), 1)
    adjustments += [seeds for seeds in (seeds_sent(body, calls) if calls > 1 else None,) if seeds is not None]
    requests = [target.kind.encode(item, target, options) for item in (fan_out(body, calls) if calls > 1 else [body])]
    origin = urlsplit(target.base_url)
    return Sent(
        url=f"{origin.scheme}://{origin.netloc}{requests[0].path}",
        headers=dict(requests[0].headers),
        bodies=tuple(json.loads(item.body) for item in requests),
        adjustments=tuple({"param": a.param, "action": a.action, "from": a.from_, "to": a.to} for a in adjustments),
    )


def differences(case: Case, sent: Sent) -> list[str]:
    """Return the differences from the case's expectations."""
    expected = case["error"]
    if expected is not None or sent.error is not None:
        return [] if expected == sent.error else [f"error {sent.error}, expected {expected}"]
    return [*_wire_differences(case["upstream"], sent), *_receipt_differences(case["adjustments"], sent.adjustments)]


def _wire_differences(upstream: dict[str, Any], sent: Sent) -> Iterator[str]:
    body = sent.bodies[0]
    path = upstream.get("path")
    if path is not None and path not in (sent.url, urlsplit(sent.url).path):
        yield f"address {sent.url}, expected {path}"
    for name, value in (upstream.get("headers") or {}).items():
        if sent.headers.get(name.lower()) != value:
            yield f"header {name}: {sent.headers.get(name.lower())!r}, expected {value!r}"
    for index, fragment in enumerate([upstream.get("body") or {}, *(upstream.get("calls") or ())]):
        actual = sent.bodies[max(0, index - 1)] if index <= len(sent.bodies) else {}
        for key, value in fragment.items():
            if actual.get(key, ...) != value:
                yield f"body {key}: {actual.get(key, 'absent')!r}, expected {value!r}"
    if upstream.get("calls") and len(upstream["calls"]) != len(sent.bodies):
        yield f"{len(sent.bodies)} calls, expected {len(upstream['calls'])}"
    yield from (f"{key} is missing" for key in upstream.get("present") or () if key not in body)
    yield from (f"{key} must not be there" for key in upstream.get("absent") or () if key in body)


def _receipt_differences(listed: list[Case], made: tuple[dict[str, Any], ...]) -> Iterator[str]:
    for entry in listed:
        expected = {key: value for key, value in entry.items() if key in ("param", "action", "from", "to")}
        if not any(all(item[key] == value for key, value in expected.items()) for item in made):
            yield f"not reported: {expected}, but {made}"
    existing = {(entry["param"], entry["action"]) for entry in listed}
    for item in made:
        if item["action"] not in ("set_default", "warn") and (item["param"], item["action"]) not in existing:
            yield f"reported without reason: {item}"
