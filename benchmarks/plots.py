"""Bar charts as SVG: one bar per target, with a line from the lowest to the highest value.

The axis begins at zero. If the largest value is more than 100 times the smallest one, the axis is logarithmic instead, and the title
states this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.figures import Spread

WIDTH, LABELS, VALUES, BAR, GAP, HEAD = 760, 150, 90, 18, 14, 44
MAX_LINEAR_RATIO = 100
COLOURS = ("#2563a8", "#7aa6d6", "#8a8a8a", "#b9b9b9", "#c96f3b", "#d99a5b", "#e0b98a", "#7d9c5a", "#a4b98a")
"""Colours that are readable on white and on dark pages."""


class Bar(NamedTuple):
    """One bar: the name of a target and its figure."""

    name: str
    spread: Spread


def bars(title: str, groups: Mapping[str, Sequence[Bar]]) -> str:
    """Return a chart of the groups by their headings. At least one group must have a bar."""
    values = [value for group in groups.values() for bar in group for value in bar.spread]
    low, high = 10 ** math.floor(math.log10(min(values))), max(values) * 1.05
    logarithmic = max(values) > MAX_LINEAR_RATIO * min(values)
    names = list(dict.fromkeys(bar.name for group in groups.values() for bar in group))
    parts, y = [_text(8, 22, f"{title} (logarithmic axis)" if logarithmic else title, weight="bold")], HEAD

    def x(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else value / high
        return LABELS + (WIDTH - LABELS - VALUES) * share

    for heading, group in groups.items():
        parts.append(_text(8, y + 13, heading, weight="bold"))
        y += BAR + 4
        for bar in group:
            median, least, most = bar.spread
            middle, line = y + BAR / 2, y + BAR / 2 - 2
            colour = COLOURS[names.index(bar.name) % len(COLOURS)]
            parts += [
                _text(LABELS - 6, middle + 4, bar.name, anchor="end"),
                f'<rect x="{LABELS}" y="{y}" width="{x(median) - LABELS:.1f}" height="{BAR - 4}" fill="{colour}"/>',
                f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{line:.1f}" y2="{line:.1f}" stroke="#d33" stroke-width="2"/>',
                _text(x(most) + 6, middle + 3, f"{median:,.0f}" if median >= 10 else f"{median:.2f}"),
            ]
            y += BAR
        y += GAP
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">'
    background = f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([frame, f"<title>{escape(title)}</title>", background, *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#222">{escape(text)}</text>'
