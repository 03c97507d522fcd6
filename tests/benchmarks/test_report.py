"""The report of a benchmark: its tables, its verdicts, and whether it calls a run quiet."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from benchmarks.bench import CPU, DIRECT, RATE, STORE, column
from benchmarks.conditions import Conditions
from benchmarks.figures import Figures, Spread
from benchmarks.goals import GOALS, Goal
from benchmarks.plots import Bar, bars
from benchmarks.report import markdown, plots, shown
from benchmarks.targets import CONTROL, FULL, NGINX
from tests.support.each import each

QUIET = Conditions(load_before=0.1, seconds=600, others=0.01)


def figures_of(full: list[float], nginx: list[float], again: list[float] | None = None, table: str = "json", row: str = "c=32") -> Figures:
    """Return the figures of a row, and of the control if it was measured."""
    figures = Figures()
    for name, values in ((FULL, full), (NGINX, nginx)):
        for value in values:
            figures.add(table, row, column(name, CPU), value)
    for value in again or []:
        figures.add("control", "JSON c=32", column(NGINX, CPU), 20)
        figures.add("control", "JSON c=32", column(CONTROL, CPU), value)
    return figures


def goal(name: str) -> Goal:
    """Return a goal by its name."""
    (found,) = [one for one in GOALS if one.name == name]
    return found


def cells(text: str, row: str) -> list[str]:
    """Return the cells of the row of a table."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_medians_ranges_and_ratios_within_repetitions() -> None:
    text = markdown(figures_of([100, 200, 400], [20, 20, 50]), QUIET)
    assert cells(text, "c=32") == ["c=32", "200 (100-400)", "20.0 (20.0-50.0)", "8.00 (5.00-10.00)"]
    assert "everything on / nginx" in text
    assert "bare" not in "".join(line for line in text.splitlines() if line.startswith("|  | everything on"))


@each(
    ("spread", "text"),
    [
        (None, "-"),
        (Spread(1.234, 1.2, 1.3), "1.23 (1.20-1.30)"),
        (Spread(12.34, 12.34, 12.34), "12.3"),
        (Spread(-1.5, -2.25, 0.5), "-1.50 (-2.25 to 0.50)"),
        (Spread(1234.5, 999, 2000), "1,234 (999-2,000)"),
    ],
)
def test_figure_has_three_significant_digits(spread: Spread | None, text: str) -> None:
    assert shown(spread) == text


@each(
    ("values", "verdict"),
    [
        ([[100.0, 99], [20.0, 20]], ("at most 5 x", "4.975", "met")),
        ([[110.0, 99], [20.0, 19]], ("at most 5 x", "5.355", "missed")),
        ([[110.0], []], ("at most 5 x", "-", "not measured")),
    ],
)
def test_goal_is_met_up_to_its_limit(values: list[list[float]], verdict: tuple[str, str, str]) -> None:
    assert goal("JSON c=32 against nginx").verdict(figures_of(*values)) == verdict


def test_part_of_a_run_shows_only_the_goals_that_it_measured() -> None:
    text = markdown(figures_of([100], [20]), QUIET)
    assert cells(text, "JSON c=32 against nginx")[-1] == "met"
    assert "| not measured |" not in text


def test_goal_of_several_rows_takes_the_worst_row() -> None:
    figures = Figures()
    for row, rate in (("chat JSON", 9000.0), ("chat SSE", 1200.0), ("messages JSON", 5000.0)):
        figures.add("harness", row, column(FULL, RATE), rate)
    assert goal("six workloads, the slowest").verdict(figures) == ("at least 4,900 requests/s", "1,200", "missed")


def test_configuration_that_does_not_start_misses_the_goal() -> None:
    figures, many = Figures(), goal("more models and keys, against 10")
    for name, value in (("10", 100.0), ("more", 104.0)):
        figures.add("scale", "10,000 keys, exact name", column(name, CPU), value)
    assert many.verdict(figures) == ("at most 1.05 x", "1.040", "met")
    figures.note("scale", "100,000 keys: the gateway does not start (the file is larger than 1 MiB).")
    assert many.verdict(figures) == ("at most 1.05 x", "does not start", "missed")


def test_added_latency_is_the_difference_to_calls_without_a_proxy() -> None:
    figures, row = Figures(), "16 callers, upstream of 20 ms: p99"
    for direct, full in ((20.5, 20.9), (22.0, 22.3), (20.6, 21.5)):
        figures.add("latency", row, column(DIRECT, "ms"), direct)
        figures.add("latency", row, column(FULL, "ms"), full)
    assert goal("added p99, 16 callers, upstream of 20 ms").verdict(figures) == ("at most 0.5 ms", "0.400", "met")


@each(
    ("others", "again", "quiet"),
    [
        (0.01, [20.0, 20.5, 19.0], True),
        (0.30, [20.0, 20.5, 19.0], False),
        (0.01, [24.0, 20.5, 24.0], False),
        (0.01, [16.0, 20.5, 16.0], False),
        (0.01, [], False),
    ],
)
def test_run_is_quiet_if_others_do_little_and_equal_processes_cost_the_same(others: float, again: list[float], quiet: bool) -> None:
    figures = figures_of([100], [20], again)
    text = markdown(figures, Conditions(0.2, 600, others))
    assert ("This was a quiet run." in text) == quiet
    assert ("**This was a busy run" in text) != quiet
    assert f"Other processes used {others:.0%} of all cores" in text


def test_comparison_shows_the_share_of_each_target() -> None:
    figures = figures_of([100, 300], [20, 30])
    for value in (200, 200):
        figures.add("json", "c=32", column("smg", CPU), value)
    figures.note("json", "smg has no figure for c=256: it gave wrong answers.")
    figures.add("json", "c=32", column(STORE, CPU), 30)
    text = markdown(figures, QUIET, ["smg"])
    assert cells(text, "Redis, for *everything on*") == ["Redis, for *everything on*", "30.0", ""]
    assert cells(text, "smg") == ["smg", "200", "1.00 (0.50-1.50)"]
    assert cells(text, NGINX)[2] == "7.50 (5.00-10.00)"
    assert "- smg has no figure for c=256: it gave wrong answers." in text


def test_report_shows_each_plot_that_is_written() -> None:
    figures = figures_of([100], [20])
    assert re.findall(r"!\[[^]]*\]\(([^)]*)\)", markdown(figures, QUIET)) == list(plots(figures, compared=False)) == ["plots/json.svg"]


SVG = "{http://www.w3.org/2000/svg}"


def bars_of(*medians: float) -> tuple[list[float], list[str]]:
    """Return the lengths of the bars of a plot, and the texts of the plot."""
    group = [Bar(f"<target {at}>", Spread(median, median, median)) for at, median in enumerate(medians)]
    root = ET.fromstring(bars("JSON calls", {"c=1": group}))
    return [float(each.attrib["width"]) for each in root.findall(f"{SVG}rect")[1:]], [str(text.text) for text in root.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_figures() -> None:
    (full, nginx), texts = bars_of(400, 40)
    assert abs(full / nginx - 10) < 0.1
    assert texts == ["JSON calls", "c=1", "<target 0>", "400", "<target 1>", "40"]


def test_axis_is_logarithmic_and_says_so_if_the_figures_differ_too_much() -> None:
    (full, bare, nginx), texts = bars_of(40000, 400, 4)
    assert abs((full - bare) - (bare - nginx)) < 0.5
    assert texts[0] == "JSON calls (logarithmic axis)"
