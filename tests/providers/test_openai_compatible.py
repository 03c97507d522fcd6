"""providers.openai_compatible: the base of OpenAI's wire format, and the type for servers whose limits are unknown."""

from __future__ import annotations

from typing import Any

import pytest

from providers.base import Refusal
from providers.openai_compatible import OPENAI_COMPATIBLE, base_path
from tests.providers.adapting import Adapted, adapt


def _adapted(*, strict: bool = False, **more: Any) -> Adapted:
    return adapt(OPENAI_COMPATIBLE.type, more, strict=strict)


@pytest.mark.parametrize(
    ("caps", "sent_cap"), [({"max_tokens": 5, "max_completion_tokens": 3}, 3), ({"max_tokens": 2, "max_completion_tokens": 9}, 2)]
)
def test_the_smaller_of_two_token_limits_is_sent(caps: dict[str, int], sent_cap: int) -> None:
    adapted = _adapted(**caps)
    assert adapted.sent["max_tokens"] == sent_cap
    assert "max_completion_tokens" not in adapted.sent
    assert adapted.adjustments
    with pytest.raises(Refusal) as caught:
        _adapted(strict=True, **caps)
    assert caught.value.code == "conflicting_parameters"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_single_token_limit_keeps_its_name(name: str) -> None:
    adapted = _adapted(**{name: 7})
    assert (adapted.sent[name], adapted.actions()) == (7, [])


def test_a_list_of_seeds_becomes_one_request_per_seed() -> None:
    assert _adapted(seed=[7]).sent["seed"] == 7
    several = _adapted(seed=[1, 2], n=2)
    assert "n" not in several.sent
    assert ("n", "fan_out") in several.actions()
    single = _adapted(seed=3, n=2)
    assert (single.sent["n"], single.actions()) == (2, [])


def test_base_path_has_no_trailing_slash() -> None:
    assert [base_path(url) for url in ("http://host/v1/", "http://host/a/v1", "http://host", "http://host/")] == ["/v1", "/a/v1", "", ""]
