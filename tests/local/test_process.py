"""providers.local.process, child and rules: the environment that the child inherits, refused starts, and the engine's own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers.base import Adjustment, Body, Options
from providers.local.child import ChildError, serve
from providers.local.process import INHERITED_VARIABLES, environment
from providers.local.rules import CHOICES_MEMO, SEED_MODULUS, FoldSeed, SlotChoices, WarnUnanchoredPatterns
from providers.rules.rule import Rule, compile_rules


def _adjustments(rule: Rule, body: bytes, options: Options) -> list[Adjustment]:
    return compile_rules((rule,), "m", unknown="pass").apply(Body(body), "the engine", options, {"slots": 2})


def test_environment_keeps_no_other_variable() -> None:
    variables = {"PATH": "/bin", "OPENAI_API_KEY": "secret", "LC_ALL": "C", "OMP_NUM_THREADS": "2"}
    kept = environment(variables)
    assert kept == {
        "PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    assert not [name for name in INHERITED_VARIABLES if "KEY" in name or "TOKEN" in name]


def test_child_refuses_a_missing_and_an_invalid_model(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": str(tmp_path / "absent.gguf"), "socket": str(tmp_path / "engine.sock")}
    with pytest.raises(ChildError) as caught:
        serve(settings)
    assert caught.value.code == "missing_model"
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"ELF!")
    with pytest.raises(ChildError, match="is not a GGUF file") as caught:
        serve({**settings, "model": str(wrong)})
    assert caught.value.code == "bad_model"


def test_seed_is_folded_only_if_it_exceeds_the_engine_range() -> None:
    assert _adjustments(FoldSeed(), b'{"seed":7}', Options()) == []
    (adjustment,) = _adjustments(FoldSeed(), b'{"seed":%d}' % (SEED_MODULUS + 7), Options())
    assert adjustment.to == 7


def test_choices_beyond_the_slots_become_several_requests() -> None:
    options = Options(memo={})
    assert _adjustments(SlotChoices(), b'{"n":2}', options) == []
    assert options.memo[CHOICES_MEMO] == 2
    (adjustment,) = _adjustments(SlotChoices(), b'{"n":3}', options)
    assert (adjustment.action, options.memo[CHOICES_MEMO]) == ("fan_out", 1)


@pytest.mark.parametrize(("pattern", "warned"), [("^a$", False), ("a", True), ("^a", True)])
def test_warning_for_a_pattern_that_is_not_anchored(pattern: str, warned: bool) -> None:
    body = b'{"response_format":{"schema":{"properties":{"x":[{"pattern":"%s"}]}}}}' % pattern.encode()
    assert bool(_adjustments(WarnUnanchoredPatterns("response_format"), body, Options())) is warned
