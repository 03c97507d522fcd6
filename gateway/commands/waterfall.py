"""One past call as text: the request, the outcome, and a bar for each part of its time."""

from __future__ import annotations

from typing import Any

from gateway.commands.output import printable

BAR_WIDTH = 40
LABEL_WIDTH = 11


def waterfall(call: dict[str, Any]) -> str:
    """Return the record of a call as text."""
    lines = [f"{name.ljust(LABEL_WIDTH)}{printable(value)}" for name, value in _facts(call) if value]
    steps = _steps(call)
    whole = max([call["ms"], *(end for _, _, end in steps), 0.01])
    lines.append("")
    for name, start, end in steps:
        lines.append(f"{start:>10,.1f} {end:>10,.1f} ms  |{_bar(start / whole, end / whole)}|  {printable(name)}")
    return "\n".join(lines)


def content_text(call: dict[str, Any]) -> str:
    """Return the captured content of a call as text, after a blank line."""
    content = call.get("content")
    if content is None:
        return "\n\nThe content of this call is not kept: its key does not capture content, or the content has been deleted."
    parts = [f"{name}\n{_lines(content[name])}" for name in ("request", "response")]
    return "\n\n" + "\n\n".join(parts) + ("\n\nThe content was too long: only a part of it is kept." if content.get("cut") else "")


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))


def _facts(call: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines above the bars."""
    caller = [call.get("client") or ""]
    caller += [f"{word} {call[name]}" for name, word in (("key", "key"), ("team", "team"), ("end_user", "end user")) if call.get(name)]
    ids = [f"{name} {call[name]}" for name in ("client_id", "upstream_id", "trace_id", "mirror_of") if call.get(name)]
    error = " ".join(call[name] for name in ("error", "param") if call.get(name))
    return [
        ("call", f"{call['id']}  ended {call['time']}"),
        ("other ids", ", ".join(ids)),
        ("caller", ", ".join(filter(None, caller))),
        ("request", f"{call['path']}, model {call['model'] or '-'}" + (", stream" if call["stream"] else "")),
        ("target", call.get("target") or ""),
        ("status", f"{call['status']}" + (f", caller disconnected ({call['aborted']})" if call.get("aborted") else "")),
        ("error", f"{error}: {call['message']}" if call.get("message") else error),
        *(("refused by" if state.get("refused") else "limit", _limit(state)) for state in call.get("limits", ())),
        ("stream end", call.get("stream_end") or ""),
        ("tokens", _tokens(call)),
        ("cost", _cost(call)),
        ("adjusted", ", ".join(call.get("adjustments", ()))),
        ("skipped", ", ".join(f"{each['target']} ({each['param'] or '-'})" for each in call.get("skipped", ()))),
    ]


def _limit(state: dict[str, Any]) -> str:
    """Return the state of a limit at the time of the check."""
    whose = f"{state['owner']}, model {state['model']}" if "model" in state else state["owner"]
    used = f"{state['used']:,.9g} of {state['amount']:,.9g} used"
    if state.get("reserved"):
        used += f" ({state['reserved']:,.9g} of it reserved by calls in flight)"
    reset = f", free again after {state['reset_s']:,.1f} s" if state["reset_s"] else ", never reset" if state["reset_s"] is None else ""
    return f"{state['limit']} for {whose}: {used}{reset}"


def _tokens(call: dict[str, Any]) -> str:
    if "prompt_tokens" not in call:
        return ""
    more = [f"{call[name]:,} {name.partition('_')[0]}" for name in ("cached_tokens", "reasoning_tokens") if name in call]
    more += ["estimated"] if call.get("estimated") else []
    return f"{call['prompt_tokens']:,} prompt + {call['output_tokens']:,} output" + (f" ({', '.join(more)})" if more else "")


def _cost(call: dict[str, Any]) -> str:
    if "cost_usd" not in call:
        return ""
    cost = "the price is not known" if call["cost_usd"] is None else f"{call['cost_usd']:.9f}".rstrip("0").rstrip(".") + " USD"
    billed = [each["target"] for each in call.get("billed_attempts", ())]
    return cost + (f", with attempts at {', '.join(billed)} that did not answer" if billed else "")


def _steps(call: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return the parts of the call's time: name, start and end in milliseconds after its start."""
    steps: list[tuple[str, float, float]] = []
    for attempt in call.get("attempts", ()):
        target, queued = attempt["target"], attempt.get("queue_ms", 0.0)
        sent = attempt.get("sent_ms")
        if queued:
            steps.append((f"queue of {target}", (sent or queued) - queued, sent or queued))
        if sent is None or (not attempt["ms"] and attempt["outcome"] != "cached"):
            at = queued if sent is None else sent
            steps.append((f"{target}: {attempt['outcome']}, not sent", at, at))
            continue
        head = f", response began at {attempt['head_ms']:,.1f}" if "head_ms" in attempt else ""
        steps.append((f"{target}: {attempt['outcome']}{head}", sent, sent + attempt["ms"]))
    if "first_byte_ms" in call:
        steps.append(("first byte to the caller", call["first_byte_ms"], call["first_byte_ms"]))
    return [*steps, ("end", call["ms"], call["ms"])]


def _bar(start: float, end: float) -> str:
    """Return a bar between two shares of the whole time. A moment is shown as a single mark."""
    first = min(BAR_WIDTH - 1, int(start * BAR_WIDTH))
    last = min(BAR_WIDTH, max(first + 1, round(end * BAR_WIDTH)))
    return " " * first + ("#" * (last - first) if end > start else "|") + " " * (BAR_WIDTH - (last if end > start else first + 1))
