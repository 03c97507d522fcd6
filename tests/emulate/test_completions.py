"""A completion as a chat: kept parameters and refused ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.emulate.completions import to_chat
from providers.base import Body, Refusal
from tests.providers.adapting import target_for

TARGET = target_for("siati")


def made(strict: bool = False, **fields: Any) -> Body:
    """Return the chat of a completion."""
    body = Body(json.dumps({"model": "m", "prompt": "Once", **fields}).encode())
    to_chat(body, TARGET, strict=strict)
    return body


def test_other_parameters_stay_and_a_cap_is_not_replaced() -> None:
    body = made(temperature=0.5, max_tokens=3, stop=["x"])
    assert json.loads(body.encode()) == {
        "model": "m", "temperature": 0.5, "max_tokens": 3, "stop": ["x"], "messages": [{"role": "user", "content": "Once"}],
    }  # fmt: skip
    assert made(max_completion_tokens=4).get("max_tokens") is None
    assert made().get("max_tokens") == 16


@pytest.mark.parametrize(("listed", "sent"), [(0, (True, None)), (3, (True, 3)), (None, (None, None))])
def test_number_of_log_probabilities_becomes_two_parameters(listed: int | None, sent: tuple[Any, Any]) -> None:
    body = made(**({} if listed is None else {"logprobs": listed}))
    assert (body.get("logprobs"), body.get("top_logprobs")) == sent


def test_strict_mode_refuses_every_chat() -> None:
    with pytest.raises(Refusal) as refused:
        made(strict=True)
    assert refused.value.param == "prompt"
