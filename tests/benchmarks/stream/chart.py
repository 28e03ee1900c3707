"""The chart: for each question a dot per client on a scale of powers of ten, as SVG.

Less is better everywhere. A line reaches from minimum to maximum, or from p50 to p99.
"""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from attrs import frozen
from tests.benchmarks.stream.figures import OURS, Figures, Spread
from tests.benchmarks.stream.table import TITLES, number

WIDTH = 760
LABELS = 210
"""Where the scale begins; names stand before it, values behind its end."""
SCALE_END = WIDTH - 110
ROW, HEAD, GAP = 22, 40, 18

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; font-size: 14px; }
.tick { fill: #59636e; font-size: 11px; }
.grid { stroke: #d1d9e0; }
.dot, .ring, .range { stroke: #818b98; fill: #818b98; stroke-width: 2; }
.ring { fill: none; }
.ours .dot, .ours .ring, .ours .range { stroke: #0969da; fill: #0969da; }
.ours .ring { fill: none; }
.ours text { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .tick { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .ours .dot, .ours .ring, .ours .range { stroke: #58a6ff; fill: #58a6ff; }
  .ours .ring { fill: none; }
}
"""


@frozen
class Panel:
    """One question. With a second measure a ring stands for that, and a line between."""

    scenario: str
    variant: str
    measure: str
    title: str
    second: str = ""


PANELS = (
    Panel("saturated", "", "µs a message", "Saturated: cost of a message, µs"),
    Panel(
        "live",
        "1,000 messages/s",
        "p50 ms",
        "Live at 1,000 messages/s: from sent to handed over, ms, p50 (dot) and p99 (ring)",
        second="p99 ms",
    ),
    Panel("memory", "10,000 tokens", "MB", "10,000 books of 50 + 50 levels: resident memory, MB"),
    Panel("startup", "10,000 tokens", "ms", "10,000 books: from connecting to the last, ms"),
    Panel("reset", "500 tokens", "ms", "500 books: all there again after a TCP reset, ms"),
)


@frozen
class Line:
    """A client's place in a panel."""

    client: str
    first: Spread
    second: Spread | None

    def values(self) -> list[float]:
        """All that must be on the scale."""
        spreads = [self.first, *([self.second] if self.second else [])]
        return [value for one in spreads for value in (one.low, one.median, one.high)]


def chart(figures: Mapping[str, Figures]) -> str:
    """An SVG of all panels for which something was measured."""
    parts: list[str] = []
    top = 0.0
    for panel in PANELS:
        lines = _lines(panel, figures)
        if lines:
            parts += _panel(panel, lines, top)
            top += HEAD + ROW * len(lines) + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top:.0f}" '
        f'viewBox="0 0 {WIDTH} {top:.0f}" role="img">\n'
        f"<title>polyactors and others, measured</title>\n<style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _lines(panel: Panel, figures: Mapping[str, Figures]) -> list[Line]:
    """The clients that were measured, the best first."""
    found = figures.get(panel.scenario)
    lines: list[Line] = []
    for client in TITLES if found is not None else ():
        assert found is not None
        first = found.spread(panel.variant, client, panel.measure)
        second = found.spread(panel.variant, client, panel.second) if panel.second else None
        if first is not None:
            lines.append(Line(client, first, second))
    return sorted(lines, key=lambda line: line.first.median)


def _panel(panel: Panel, lines: Sequence[Line], top: float) -> list[str]:
    values = [value for line in lines for value in line.values()]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def x(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return LABELS + share * (SCALE_END - LABELS)

    bottom = top + HEAD + ROW * len(lines)
    parts = [f'<text class="title" x="0" y="{top + 14:.0f}">{escape(panel.title)}</text>']
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top + 36:.0f}" y2="{bottom}"/>'
            f'<text class="tick" x="{at:.1f}" y="{top + 31:.0f}" text-anchor="middle">'
            f"{10.0**power:,.10g}</text>"
        )
    for place, line in enumerate(lines):
        middle = top + HEAD + ROW * (place + 0.5)
        parts += _marks(line, middle, [x(value) for value in line.values()])
    return parts


def _marks(line: Line, y: float, xs: Sequence[float]) -> list[str]:
    """One client: name, range, dot, ring, value."""
    title = escape(TITLES[line.client].strip("*").partition(":")[0])
    said = number(line.first.median)
    ring = ""
    begin, end = xs[0], xs[2]
    if line.second is not None:
        said += f" / {number(line.second.median)}"
        begin, end = xs[1], xs[4] - 5
        ring = f'<circle class="ring" cx="{xs[4]:.1f}" cy="{y}" r="5"/>'
    kind = "ours" if line.client == OURS else "other"
    return [
        f'<g class="{kind}">'
        f'<text x="{LABELS - 14}" y="{y + 4}" text-anchor="end">{title}</text>'
        f'<line class="range" x1="{begin:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{xs[1]:.1f}" cy="{y}" r="5"/>{ring}'
        f'<text x="{WIDTH}" y="{y + 4}" text-anchor="end">{said}</text></g>'
    ]
