"""The account's screen as lines of styled text: header, open orders, trades, positions, news."""

import time
from collections.abc import Sequence
from decimal import Decimal

from polyactors.terminal.account import AccountScreen
from polyactors.terminal.draw import ACCOUNT_STYLES, HINT, Part, Picture, fit, news_parts
from polyactors.terminal.text import duration, printable, short_token

STATUS_STYLES = {"CONFIRMED": "green", "FAILED": "bold red", "RETRYING": "yellow"}
SIDE_STYLES = {"BUY": "green", "SELL": "red"}
FIXED_LINES = 10
"""Header, three titles with a blank line above each, a blank line above the news, the hint."""
Table = tuple[str, int, list[list[Part]]]
"""Its title, how many there are, and the lines of those that may be shown."""


def draw_account(screen: AccountScreen, width: int, height: int) -> Picture:
    """`height` lines, the last of them the hint; nothing is wider than `width` cells."""
    room = max(height - FIXED_LINES, 3)
    news_room = max(min(room // 4, 8), 1)
    shares = _shares(
        [screen.open_orders, screen.known_trades, len(screen.positions)],
        room - news_room,
    )
    tables: Sequence[Table] = (
        ("OPEN ORDERS", screen.open_orders, _orders(screen, shares[0])),
        ("TRADES", screen.known_trades, _trades(screen, shares[1])),
        ("POSITIONS", len(screen.positions), _positions(screen, shares[2])),
    )
    lines = _header(screen)
    for title, number, rows in tables:
        hidden = number - len(rows)
        told = f"{title} {number:,}" + (f"  (… {hidden:,} more)" if hidden else "")
        lines += [[], [(told, "dim")], *rows]
    lines.append([])
    room = max(height - len(lines) - 1, 0)
    news = (
        [line for item in screen.news[-room:] for line in news_parts(item, width)] if room else []
    )
    lines += news[-room:] if room else []
    lines += [[]] * (height - 1 - len(lines))
    lines = [*lines[: height - 1], [(HINT, "dim")]]
    return Picture(tuple(fit(line, width) for line in lines))


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """So many lines for each table: one at first, in their order, then what it needs, or an even
    part of what is left."""
    shares = [0] * len(wanted)
    for index, number in enumerate(wanted):
        if number and room > 0:
            shares[index] = 1
            room -= 1
    open_tables = sorted(range(len(wanted)), key=lambda index: wanted[index])
    for number, index in enumerate(open_tables):
        even = max(room, 0) // (len(open_tables) - number)
        more = min(wanted[index] - shares[index], even)
        shares[index] += more
        room -= more
    return shares


def _header(screen: AccountScreen) -> list[list[Part]]:
    is_up = screen.channel == "up"
    return [
        [
            (screen.state_text, ACCOUNT_STYLES[screen.trust.state]),
            ("   channel ", "dim"),
            (screen.channel, "green" if is_up else "bold red"),
            (f"   {screen.title}", "bold"),
            (f"   up {duration(screen.elapsed_seconds)}", ""),
        ]
    ]


def _orders(screen: AccountScreen, room: int) -> list[list[Part]]:
    return [
        [
            (f"{short_token(order.token):11}", ""),
            (f"{printable(order.outcome)[:10]:11}", "dim"),
            (f"{order.side:5}", SIDE_STYLES[order.side]),
            (f"{order.price:>7f}", ""),
            (f"{order.open_size:>12f} open", ""),
            (f"{order.filled_size:>12f} filled", "dim"),
            (f"  {order.order_type:4}", "dim"),
            (f" {short_token(order.id)}", "dim"),
        ]
        for order in screen.orders[:room]
    ]


def _trades(screen: AccountScreen, room: int) -> list[list[Part]]:
    lines: list[list[Part]] = []
    for trade in screen.trades[:room]:
        at = time.strftime("%m-%d %H:%M:%S", time.localtime(trade.match_time_s))
        fill = trade.fills[0]
        size = sum((one.size for one in trade.fills if one.token == fill.token), Decimal(0))
        lines.append(
            [
                (f"{at}  ", "dim"),
                (f"{short_token(fill.token):11}", ""),
                (f"{fill.side:5}", SIDE_STYLES[fill.side]),
                (f"{fill.price:>7f}", ""),
                (f"{size:>12f}", ""),
                (f"  {fill.role:6}", "dim"),
                (f" {trade.status:10}", STATUS_STYLES.get(trade.status, "")),
                (f" {short_token(trade.id)}", "dim"),
            ]
        )
    return lines


def _positions(screen: AccountScreen, room: int) -> list[list[Part]]:
    return [
        [
            (f"{short_token(token):11}", ""),
            (f"{size:>14f}", "red" * (size < 0)),
            (" shares", "dim"),
        ]
        for token, size in screen.positions[:room]
    ]
