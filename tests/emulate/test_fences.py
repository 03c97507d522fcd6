"""gateway.emulate.fences: the fence around an answer, however the stream is cut."""

from __future__ import annotations

from gateway.emulate.fences import FenceRemover, without_fence


def test_text_without_a_fence_is_shown_at_once() -> None:
    remover = FenceRemover()
    assert [remover.feed(piece) for piece in ("{", '"a"', " \n")] == ["{", '"a"', " \n"]
    assert (remover.finish(), remover.is_removed) == ("", False)


def test_a_closing_fence_is_held_until_it_is_certain() -> None:
    remover = FenceRemover()
    assert [remover.feed(piece) for piece in ("``", "`js", "on\n{}", "\n``", "x", "\n```")] == ["", "", "{}", "", "\n``x", ""]
    assert (remover.finish(), remover.is_removed) == ("", True)


def test_other_text_is_no_fence() -> None:
    assert without_fence("{}") is None
    assert without_fence("```python\n{}\n```") is None
    assert without_fence("```json\n{}") == "{}"
