"""The report of a run, as Markdown tables and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bench import CPU, INSTRUCTIONS, RATE, STORE, column
from benchmarks.calls import HEAVY
from benchmarks.conditions import Conditions, machine
from benchmarks.figures import Figures, Spread
from benchmarks.goals import COMPARED, GOALS, Goal
from benchmarks.peers import PEERS
from benchmarks.plots import Bar, bars
from benchmarks.runs import LATENCY
from benchmarks.sections import SECTIONS, Section
from benchmarks.targets import BARE, FULL, NGINX

INTRODUCTION = """\
Written by `{command}`. The targets run on one core unless a table states otherwise. The mock upstream, the load generator and Redis
share another core. A request body has 2,000 B: a system message and five turns, with spaces after colons and commas as
SDKs write them. No two requests are the same. A JSON response has 591 B; a stream has 51 events of about 200 B. Every
answer is checked.

CPU is the user and system time of the target's process tree. Redis is not included; where a call with everything on needs Redis,
the tables of JSON calls and of streams show its CPU time as well. Figures are medians of all repetitions, with the lowest and the highest
in brackets. Ratios are computed within a repetition, in which the targets take turns. Absolute figures depend on the machine.

- *everything on*: a key with limits for requests and tokens in Redis, the journal, metrics, the log and call records
- *bare*: no key, limits, journal or call records; metrics and the log cannot be turned off
- *nginx* only forwards bytes
"""


def markdown(figures: Figures, conditions: Conditions, compared: Sequence[str] = ()) -> str:
    """Return the report. `compared` contains the names of the other gateways, and is empty for a run without a comparison."""
    command = "make bench-peers" if compared else "make bench"
    title = "Comparison with other gateways" if compared else "Cost of a call"
    lines = [f"# {title}", "", *INTRODUCTION.format(command=command).splitlines()]
    lines += [f"- *{name}*: {PEERS[name].about}" for name in compared]
    slow = [name for name in compared if PEERS[name].slow]
    if slow:
        names = " and ".join(slow)
        left_out = f"The slow streams and more than {HEAVY} connections are not measured with {names}, because they would take minutes."
        lines += ["", left_out]
    lines += ["", f"Machine: {machine()}. {_instructions(figures)}", "", _state(figures, conditions), "", "## Goals", ""]
    lines += [*_goals(figures, COMPARED if compared else GOALS), ""]
    notes = figures.notes.get("targets", [])
    lines += [*(f"- {note}" for note in notes), ""] if notes else []
    for section in SECTIONS:
        rows = figures.tables.get(section.name)
        notes = figures.notes.get(section.name, [])
        if rows or notes:
            lines += [f"## {section.title}", "", section.text, ""]
            by_target = bool(compared) and section.name != "control"
            lines += _by_target(figures, section) if by_target else [*_table(figures, section), ""] if rows else []
            lines += [f"![{section.title}]({plot_name(section, bool(compared))})", ""] if section.plotted and rows else []
            lines += [*(f"- {note}" for note in notes), ""] if notes else []
    return "\n".join(lines)


def plots(figures: Figures, compared: bool) -> dict[str, str]:
    """Return the plots by file name: the first figure of each target, by row."""
    return {
        plot_name(section, compared): bars(f"{section.title}: {section.figures[0]}", _groups(figures, section))
        for section in SECTIONS
        if section.plotted and figures.tables.get(section.name)
    }


def plot_name(section: Section, compared: bool) -> str:
    """Return the file name of the plot of a section."""
    return f"plots/{'peers-' if compared else ''}{section.name}.svg"


def _groups(figures: Figures, section: Section) -> dict[str, list[Bar]]:
    return {
        row: [
            Bar(name, spread) for name in _targets(figures, section) if (spread := figures.spread(section.name, row, column(name, first)))
        ]
        for row in figures.tables[section.name]
        for first in section.figures[:1]
    }


def _instructions(figures: Figures) -> str:
    """Return a sentence about instructions: whether the machine counts them. They depend less on other processes than times do."""
    names = (name for rows in figures.tables.values() for row in rows.values() for name in row)
    if any(name.endswith(INSTRUCTIONS) for name in names):
        return "Instructions are those in user mode; they hardly depend on other processes."
    return "Its kernel does not count instructions, as in many virtual machines."


def _state(figures: Figures, conditions: Conditions) -> str:
    """Return the sentences that state whether the run was quiet, with the measurements."""
    deviation = conditions.deviation(figures)
    measured = (
        f"Other processes used {conditions.others:.0%} of all cores, and the load average before the run was {conditions.load_before:.1f}."
    )
    if deviation == float("inf"):
        control = "The control was not measured."
    else:
        control = f"The median cost of two equal nginx processes differed by at most {deviation:.0%}."
    if conditions.quiet(figures):
        return f"This was a quiet run. {measured} {control}"
    return f"**This was a busy run: compare only ratios, and only roughly.** {measured} {control}"


def _goals(figures: Figures, goals: Sequence[Goal]) -> Iterator[str]:
    """Return the table of goals. A run of some sections shows only the goals that it measured."""
    complete = all(section.name in figures.tables for section in SECTIONS)
    verdicts = [[goal.name, *goal.verdict(figures)] for goal in goals]
    yield from _rows(["goal", "limit", "measured", ""], [row for row in verdicts if complete or row[-1] != "not measured"])


def _table(figures: Figures, section: Section) -> Iterator[str]:
    """Return the rows of a section: their figures, then ratios and differences. Columns without any figure are left out."""
    rows = figures.tables[section.name]
    columns = [name for name in section.columns if any(name in row for row in rows.values())]
    ratios = [pair for pair in section.ratios if any(figures.ratio(section.name, row, *pair) for row in rows)]
    differences = [pair for pair in section.differences if any(figures.difference(section.name, row, *pair) for row in rows)]
    heads = ["", *columns, *(" / ".join(map(_short, pair)) for pair in ratios), *(_added(*pair) for pair in differences)]
    yield from _rows(
        heads,
        (
            [
                row,
                *(shown(figures.spread(section.name, row, name)) for name in columns),
                *(shown(figures.ratio(section.name, row, *pair)) for pair in ratios),
                *(shown(figures.difference(section.name, row, *pair)) for pair in differences),
            ]
            for row in rows
        ),
    )


def _by_target(figures: Figures, section: Section) -> Iterator[str]:
    """Return a table for each row of the section, with one row per target, and the ratio of the gateway's first figure to the target's."""
    for row in figures.tables.get(section.name, {}):
        names = _targets(figures, section)
        kinds = [kind for kind in section.figures if any(figures.values(section.name, row, column(name, kind)) for name in names)]
        first = section.figures[0]
        ours = [name for name in (FULL, BARE) if name in names]
        yield from (f"**{row}**", "")
        yield from _rows(
            ["", *kinds, *(f"{our} / this" for our in ours)],
            (
                [
                    name,
                    *(shown(figures.spread(section.name, row, column(name, kind))) for kind in kinds),
                    *(shown(figures.ratio(section.name, row, column(our, first), column(name, first))) for our in ours),
                ]
                for name in names
            ),
        )
        if store := figures.spread(section.name, row, column(STORE, first)):
            yield f"| Redis, for *{FULL}* | {shown(store)} |{' |' * (len(kinds) + len(ours) - 1)}"
        yield ""


def _targets(figures: Figures, section: Section) -> list[str]:
    """Return the names of all targets that have the section's first figure.

    The gateway and nginx come first, then the others in the order of their measurement.
    """
    end = f", {section.figures[0]}"
    found = [name.removesuffix(end) for row in figures.tables[section.name].values() for name in row if name.endswith(end)]
    found = [name for name in found if name != STORE]
    return sorted(dict.fromkeys(found), key=lambda name: (FULL, BARE, NGINX).index(name) if name in (FULL, BARE, NGINX) else len(found))


def _short(name: str) -> str:
    """Return only the target of a column whose figure is CPU time, rate, instructions or a latency without percentile, else the column."""
    target, _, figure = name.rpartition(", ")
    return target if figure in (CPU, RATE, INSTRUCTIONS, LATENCY) and not target.endswith(("p50", "p99")) else name


def _added(name: str, base: str) -> str:
    return f"{_short(name)}, added" if name.endswith("ms") else f"{_short(name)} - {_short(base)}, us"


def _rows(heads: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def shown(spread: Spread | None) -> str:
    """Return median and range with two decimals (one for a median from 10, none from 100), or a dash if there is no figure."""
    if spread is None:
        return "-"
    digits = 0 if abs(spread.median) >= 100 else 1 if abs(spread.median) >= 10 else 2
    if spread.low == spread.high:
        return f"{spread.median:,.{digits}f}"
    between = "-" if spread.low >= 0 else " to "
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}{between}{spread.high:,.{digits}f})"
