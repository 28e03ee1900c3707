"""The two diagrams, as SVG: who supervises whom, and who sends what to whom.

SVG, because GitHub and the site show the same picture of it, without a script; Mermaid would need
one in the page. What is drawn is the running tree, and what its actors said; only the places of the
boxes are chosen here.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from attrs import frozen
from tests.documents.living import Node, Said, observe
from tests.documents.messages import mailboxes

from polysupervisor import MailboxSpec, Overflow

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "explanation"
TREE = FOLDER / "tree.svg"
FLOW = FOLDER / "flow.svg"
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.head, .note { fill: #59636e; font-size: 12px; }
.line { stroke: #818b98; fill: none; }
.box { fill: #ddf4ff; stroke: #0969da; }
.outside { fill: #f6f8fa; stroke: #818b98; }
.dot { fill: #818b98; }
.waits, .coalesces { stroke: #0969da; fill: none; stroke-width: 1.5; }
.coalesces { stroke: #bf5700; stroke-dasharray: 5 3; }
.call { stroke: #818b98; fill: none; stroke-width: 1.5; }
.label { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .head, .note { fill: #9198a1; }
  .box { fill: #0c2d6b; stroke: #58a6ff; }
  .outside { fill: #212830; }
  .waits { stroke: #58a6ff; }
  .coalesces { stroke: #f0883e; }
  .label { stroke: #131416; }
}
"""

# --- the tree -----------------------------------------------------------------------------

TREE_WIDTH, ROW, INDENT = 760, 24, 20
RULE_AT, MAILBOX_AT = 240, 540
NOTES = (
    "feed-k and shard-k: one of each for every 200 tokens. events, user, discovery and terminal",
    "are there when a file, an account, a market by its name, or a view was asked for.",
)


def tree() -> str:
    """The tree: a row for each child, in start order; one feed stands for all."""
    rows = list(_rows(observe().root, 0))
    height = ROW * (len(rows) + 1) + 20 * len(NOTES) + 16
    parts = [_svg(TREE_WIDTH, height, "The supervision tree of polyactors")]
    parts += [
        f'<text class="head" x="{x}" y="16">{escape(text)}</text>'
        for x, text in (
            (4, "supervisor or actor"),
            (RULE_AT, "who is restarted; too many restarts"),
            (MAILBOX_AT, "mailbox; when it is full"),
        )
    ]
    last_at: dict[int, int] = {}
    for number, (depth, node) in enumerate(rows, 1):
        y = ROW * number + 16
        x = 6 + INDENT * depth
        if depth:
            top = last_at[depth - 1] + 6
            parts.append(f'<path class="line" d="M{x - INDENT + 6} {top}V{y - 4}h{INDENT - 8}"/>')
        last_at[depth] = y - 4
        mark = f'<rect class="box" x="{x}" y="{y - 10}" width="12" height="12" rx="2"/>'
        if node.strategy is None:
            mark = f'<circle class="dot" cx="{x + 6}" cy="{y - 4}" r="4"/>'
        parts.append(f'{mark}<text x="{x + 20}" y="{y}">{_generic(node.id)}</text>')
        parts.append(f'<text class="note" x="{RULE_AT}" y="{y}">{escape(_rule(node))}</text>')
        if node.mailbox is not None:
            box = escape(_box(node.mailbox))
            parts.append(f'<text class="note" x="{MAILBOX_AT}" y="{y}">{box}</text>')
    at = ROW * (len(rows) + 1) + 20
    for number, note in enumerate(NOTES):
        parts.append(f'<text class="note" x="4" y="{at + 18 * number}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _rows(node: Node, depth: int) -> Iterator[tuple[int, Node]]:
    yield depth, node
    for child in node.children:
        if re.search(r"-[1-9]\d*$", child.id) is None:  # one feed is as the other
            yield from _rows(child, depth + 1)


def _generic(name: str) -> str:
    return re.sub(r"-\d+$", "-k", name)


def _rule(node: Node) -> str:
    if node.strategy is None or node.intensity is None:
        return ""
    strategy = "dynamic" if node.is_dynamic else node.strategy.value
    each = " of a child" if node.intensity.scope == "child" else ""
    then = "leaves it down" if node.intensity.on_exhausted == "give_up" else "gives up"
    return f"{strategy}; {node.intensity.limit} in {node.intensity.period:g} s{each}: {then}"


def _box(spec: MailboxSpec) -> str:
    if spec.overflow is Overflow.COALESCE:
        return f"{spec.size:,} keys, newest of each"
    return f"{spec.size:,}, sender waits"


# --- the flow -----------------------------------------------------------------------------

FLOW_WIDTH, FLOW_HEIGHT = 960, 470
BOX_WIDTH, BOX_HEIGHT = 116, 34
PLACES: dict[str, tuple[int, int]] = {
    "heartbeat": (390, 30),
    "connection": (270, 180),
    "parser": (470, 180),
    "book shard": (690, 180),
    "account": (370, 340),
    "snapshots": (570, 340),
    "audit": (810, 340),
}
OUTSIDE: dict[str, tuple[int, int]] = {
    "exchange": (62, 180),
    "events": (898, 180),
    "service": (170, 340),
    "REST": (690, 440),
}
"""No actors: the other end of the socket, the stream of events, who calls a method, and REST."""
CALLS = (
    ("exchange", "connection", "WebSocket"),
    ("book shard", "events", ""),
    ("snapshots", "REST", ""),
    ("audit", "REST", ""),
    ("account", "REST", ""),
)
"""What is no message from actor to actor."""
BENDS = {
    ("book shard", "connection"): -0.15,
    ("parser", "connection"): -0.13,
    ("heartbeat", "connection"): 0.25,
    ("book shard", "snapshots"): 0.1,
    ("snapshots", "book shard"): 0.1,
    ("book shard", "audit"): 0.1,
    ("audit", "book shard"): 0.1,
}
"""How far a line bows to its right, as a share of its length."""


@frozen
class _Arrow:
    sender: str
    receiver: str
    label: str
    kind: str


def flow() -> str:
    """The flow: a box for each kind of actor, an arrow for each pair that has been heard."""
    parts = [_svg(FLOW_WIDTH, FLOW_HEIGHT, "Who sends what to whom in polyactors"), _heads()]
    arrows = [*_arrows(observe().said), *(_Arrow(a, b, text, "call") for a, b, text in CALLS)]
    places = PLACES | OUTSIDE
    drawn = [_draw(arrow, places) for arrow in arrows]
    parts += [line for line, _ in drawn]
    for name, (x, y) in places.items():
        kind = "box" if name in PLACES else "outside"
        parts.append(
            f'<rect class="{kind}" x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}"'
            f' width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x}" y="{y + 4}" text-anchor="middle">{name}</text>'
        )
    parts += [label for _, label in drawn]
    for number, (kind, text) in enumerate(
        (
            ("waits", "a full mailbox lets the sender wait"),
            ("coalesces", "the newest message of each key, never waits"),
            ("call", "no message: the network, or a call"),
        )
    ):
        y = 400 + 22 * number
        parts.append(f'<line class="{kind}" x1="12" x2="52" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="note" x="60" y="{y + 4}">{text}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _arrows(said: frozenset[Said]) -> list[_Arrow]:
    boxes = mailboxes()
    labels: dict[tuple[str, str], list[str]] = {}
    for one in sorted(said):
        labels.setdefault((one.sender, one.receiver), []).append(one.message)
    return [
        _Arrow(
            sender,
            receiver,
            ", ".join(names),
            "coalesces" if boxes[receiver].overflow is Overflow.COALESCE else "waits",
        )
        for (sender, receiver), names in labels.items()
    ]


def _draw(arrow: _Arrow, places: dict[str, tuple[int, int]]) -> tuple[str, str]:
    """The line, a curve from box to box, and its label at the middle."""
    (x1, y1), (x2, y2) = places[arrow.sender], places[arrow.receiver]
    bend = BENDS.get((arrow.sender, arrow.receiver), 0.0)
    # To the right of who walks along it, where y grows downwards.
    cx, cy = (x1 + x2) / 2 - (y2 - y1) * bend * 2, (y1 + y2) / 2 + (x2 - x1) * bend * 2
    ax, ay = _border(x1, y1, cx, cy, 0)
    bx, by = _border(x2, y2, cx, cy, 5)
    line = f"M{ax:.0f} {ay:.0f}Q{cx:.0f} {cy:.0f} {bx:.0f} {by:.0f}"
    mx, my = (ax + 2 * cx + bx) / 4, (ay + 2 * cy + by) / 4
    path = f'<path class="{arrow.kind}" d="{line}" marker-end="url(#{arrow.kind})"/>'
    label = (
        f'<text class="label" x="{mx:.0f}" y="{my + 4:.0f}" text-anchor="middle">'
        f"{escape(arrow.label)}</text>"
    )
    return path, label if arrow.label else ""


def _border(x: float, y: float, to_x: float, to_y: float, gap: float) -> tuple[float, float]:
    """Where the way from a box's centre leaves it, and `gap` further."""
    dx, dy = to_x - x, to_y - y
    share = min(
        (BOX_WIDTH / 2) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2) / abs(dy) if dy else math.inf,
    )
    share += gap / math.hypot(dx, dy)
    return x + dx * share, y + dy * share


# --- both ---------------------------------------------------------------------------------


def _svg(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>"
    )


def _heads() -> str:
    heads = "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7"'
        f' orient="auto"><path class="{kind}" style="stroke-dasharray:none" d="M1 1L7 4L1 7"/>'
        "</marker>"
        for kind in ("waits", "coalesces", "call")
    )
    return f"<defs>{heads}</defs>"
