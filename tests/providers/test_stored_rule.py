"""The rule for `store`: the gateway stores responses, not the vendor."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.base import Body, Options, Target
from providers.openai import OPENAI
from providers.rules.stored import ENCRYPTED, StoredByGateway
from tests.support.each import each

OPTIONS = Options(operation="responses")


def adapted(model: str, **given: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the body that is sent, and the adjusted parameters."""
    body = Body(msgspec.json.encode(given))
    made = OPENAI.adapt(body, Target("o/m", "o", OPENAI, model, "http://x/v1"), OPTIONS)
    return msgspec.json.decode(body.encode()), [adjustment.param for adjustment in made]


@each("model", ["gpt-5.2", "gpt-5", "o3-mini", "gpt-6.1-sol", "gpt-8"])
@each("given", [{}, {"store": True}, {"store": None}])
def test_reasoning_is_encrypted_because_the_vendor_stores_nothing(model: str, given: dict[str, Any]) -> None:
    assert adapted(model, **given) == ({"store": False, "include": [ENCRYPTED]}, ["store", "include"])
    assert adapted(model, include=[ENCRYPTED], **given) == ({"store": False, "include": [ENCRYPTED]}, ["store"])


@each("model", ["gpt-4.1", "gpt-4o", "gpt-5-chat-latest", "gpt-3.5-turbo"])
def test_other_models_have_no_reasoning(model: str) -> None:
    assert adapted(model) == ({"store": False}, ["store"])


@each("model", ["gpt-4.1", "gpt-5.2"])
def test_request_of_a_caller_that_stores_nothing_is_unchanged(model: str) -> None:
    given = {"store": False, "input": "x", "temperature": 3, "new_parameter": [1]}
    assert adapted(model, **given) == (given, [])


def test_rule_is_described() -> None:
    assert StoredByGateway().describe()["store"]["support"] == "adjusted"
