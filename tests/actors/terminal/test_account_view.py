"""The account on a terminal: every size fits, and what is shown is what is known."""

from decimal import Decimal

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from polyactors.terminal.account import AccountScreen, account_status_line
from polyactors.terminal.draw import HINT
from polyactors.terminal.draw_account import draw_account
from polyactors.terminal.news import News, Tone
from polyactors.user.reading import FillReading, OrderReading, TradeReading
from polyactors.user.state import AccountReason, AccountState, AccountTrust

TOKEN = "1234567890" * 7


def order(number: int) -> OrderReading:
    return OrderReading(
        id=f"0x{number:064x}",
        market="0x" + "ab" * 32,
        token=TOKEN,
        outcome="Yes\x1b[31m",
        side="BUY" if number % 2 else "SELL",
        price=Decimal("0.42"),
        original_size=Decimal(100 + number),
        filled_size=Decimal(number),
        open_size=Decimal(100),
        state="OPEN",
        order_type="GTC",
        created_at_s=number,
        expiration_s=0,
    )


def trade(number: int) -> TradeReading:
    fill = FillReading(
        trade=f"t{number}",
        order=f"0x{number:064x}",
        token=TOKEN,
        side="SELL",
        size=Decimal("12.5"),
        price=Decimal("0.425"),
        role="MAKER",
    )
    return TradeReading(
        id=f"trade-{number:020}",
        market="0x" + "ab" * 32,
        status="RETRYING",
        is_final=False,
        fills=(fill,),
        match_time_s=1_700_000_000 + number,
        transaction_hash=None,
    )


def screen(orders: int, trades: int, positions: int, news: int, shown: int = 100) -> AccountScreen:
    return AccountScreen(
        title="polyactors account",
        elapsed_seconds=61.0,
        channel="down: reset",
        trust=AccountTrust(AccountState.STALE, AccountReason.DISCONNECTED),
        state_seconds=12.0,
        is_known=True,
        rows_read=0,
        orders=tuple(order(number) for number in range(min(orders, shown))),
        open_orders=orders,
        trades=tuple(trade(number) for number in range(min(trades, shown))),
        known_trades=trades,
        positions=tuple((TOKEN, Decimal(-number)) for number in range(1, positions + 1)),
        news=tuple(News(number, f"news {number} " + "x" * 200, Tone.BAD) for number in range(news)),
    )


COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, COUNTS, st.integers(0, 20), st.integers(1, 200), st.integers(4, 80))
def test_every_size_is_filled_and_never_exceeded(
    orders: int, trades: int, positions: int, news: int, width: int, height: int
) -> None:
    lines = draw_account(screen(orders, trades, positions, news), width, height).lines
    assert len(lines) == height
    texts = ["".join(text for text, _ in line) for line in lines]
    assert all(cell_len(text) <= width for text in texts)
    assert texts[-1] == HINT[:width] or texts[-1].endswith("…")
    assert all(text.isprintable() for text in texts)


def test_what_is_known_is_shown() -> None:
    lines = draw_account(screen(3, 2, 1, 1), 120, 40).lines
    text = "\n".join("".join(part for part, _ in line) for line in lines)
    assert "STALE (disconnected)" in text
    assert "channel down: reset" in text
    assert "OPEN ORDERS 3\n" in text
    assert "TRADES 2\n" in text
    assert "POSITIONS 1\n" in text
    assert "RETRYING" in text
    assert "news 0" in text


def test_what_finds_no_room_is_counted() -> None:
    lines = draw_account(screen(500, 400, 2, 5), 100, 30).lines
    texts = ["".join(part for part, _ in line) for line in lines]
    (orders,) = [text for text in texts if text.startswith("OPEN ORDERS")]
    assert orders.startswith("OPEN ORDERS 500  (… 4")
    assert any(text.startswith("POSITIONS 2") for text in texts)


def test_a_long_way_to_live_shows_how_far_it_has_come() -> None:
    syncing = evolve(screen(0, 0, 0, 0), trust=AccountTrust(), rows_read=12_300)
    assert syncing.state_text == "SYNCING (12,300 rows read) for 12 s"
    assert "SYNCING (12,300 rows read)" in account_status_line(syncing, 0)


def test_the_line_says_how_things_stand() -> None:
    line = account_status_line(screen(3, 2, 1, 0), 0)
    assert (
        "status: account STALE (disconnected) for 12 s; channel down: reset; 3 open orders; "
        in line
    )
    assert line.endswith("2 trades; 1 position\n")


def test_of_what_was_never_read_no_number_is_shown() -> None:
    line = account_status_line(evolve(screen(0, 0, 0, 0), is_known=False), 0)
    assert line.endswith("channel down: reset; its orders and trades are not known\n")


def test_the_state_is_the_last_to_be_cut() -> None:
    (first, *_) = draw_account(screen(1, 1, 1, 1), 20, 24).lines
    assert "".join(text for text, _ in first).startswith("STALE (disconnected")


def test_sizes_are_exact() -> None:
    large = evolve(screen(0, 0, 0, 0), positions=((TOKEN, Decimal("8999990.25")),))
    lines = draw_account(large, 100, 30).lines
    assert any("8999990.25 shares" in "".join(text for text, _ in line) for line in lines)
