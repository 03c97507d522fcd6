"""The time for which a target may be silent: several times its usual time, and never less than some seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.targets.silence import FACTOR, MIN_SILENCE_S, UNKNOWN_SILENCE_S, Silence


def silence_of(*seconds: float, stream: bool = True) -> Silence:
    """Return the silence of a target whose answers took these times to begin."""
    silence = Silence()
    for each in seconds:
        silence.record(each, stream=stream)
    return silence


@pytest.mark.parametrize(
    ("times", "least", "most"),
    [
        ((), UNKNOWN_SILENCE_S, UNKNOWN_SILENCE_S),
        ((0.005,), MIN_SILENCE_S, MIN_SILENCE_S),
        ((0.005,) * 500, MIN_SILENCE_S, MIN_SILENCE_S),
        ((0.1, 3.0, 0.1), 12.0, 12.0),
        ((3.0,) * 100, 12.0, 12.0),
        ((9.0,) * 300 + (0.01,) * 256, MIN_SILENCE_S, MIN_SILENCE_S),
        ((0.01,) * 199 + (9.0,), MIN_SILENCE_S, MIN_SILENCE_S),
        ((0.01,) * 95 + (9.0,) * 5, 36.0, 36.0),
    ],
    ids=["none", "one", "fast", "few", "slow", "forgotten", "rare", "tail"],
)
def test_patience_follows_the_longest_usual_time(times: tuple[float, ...], least: float, most: float) -> None:
    assert least <= silence_of(*times).patience(stream=True) <= most


def test_streams_and_whole_answers_are_apart() -> None:
    silence = silence_of(0.01)
    assert silence.patience(stream=False) == UNKNOWN_SILENCE_S
    silence.record(10.0, stream=False)
    assert (silence.patience(stream=True), silence.patience(stream=False)) == (MIN_SILENCE_S, 40.0)


@given(st.lists(st.floats(0, 600), max_size=60), st.floats(0, 2000))
def test_longer_times_never_make_the_judgement_harsher(times: list[float], waited: float) -> None:
    silence = silence_of(*times)
    assert not silence.is_too_long(min(waited, MIN_SILENCE_S), stream=True, probe=False)
    if times and waited <= FACTOR * max(times):
        assert not silence.is_too_long(waited, stream=True, probe=False)


def test_silences_of_probes_add_up_until_an_answer() -> None:
    silence = silence_of(0.01)
    assert [silence.is_too_long(0.75, stream=True, probe=True) for _ in range(6)] == [False, False, True, False, False, True]
    silence.is_too_long(1.5, stream=True, probe=True)
    silence.record(0.01, stream=True)
    assert not silence.is_too_long(0.75, stream=True, probe=True)
    assert not any(silence.is_too_long(0.75, stream=True, probe=False) for _ in range(9))
