"""What a reconnect missed, from the REST lists: the channel itself replays nothing.

The procedure, for which the shell awaits and this module decides:

1. Connect and send the subscription. From here on, apply what the channel says as it comes.
2. `begin`: remember which orders are open.
3. Ask for /data/orders, all pages; when there was more than one, until two readings agree: pages
   are cut by offset, so while an order closes between two pages, an open one can slip through.
   Then ask again for each order of `unlisted`, and add what comes: a list may lag behind.
4. Only then ask for /data/trades with `after=trades_after_s(…)`, all pages, and for each trade of
   `pending_before`, by `id`. (Trades slip through no cut, since none ever leaves the list.)
5. Apply `pieces` of both, then close what was missing twice, then `cover`. The account is
   complete now. If the session ended before, what was read is as true as ever, but says nothing
   of what came after it: begin again with the next session. If a list could not be read to its
   end, the `pieces` of what was read are true as well, and that is all.

Why that is enough: an order that was known at 2 and is not listed at 3 was closed by then, so
all its trades are in the list of 4, and their sum tells a filled order from a cancelled one.
Whatever happens after 2 comes over the channel as well, before or after step 5; since an account
only grows, both leave the same, and the second to tell a fact reports nothing.

A session that is silently robbed of an event is healed in the same way by the next
reconciliation that begins when everything older has arrived: trades are complete up to the last
reconciliation, and not up to the last event.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from attrs import frozen

from polyactors.account.account import Account, Coverage
from polyactors.account.trades import Trade, matched_at_s
from polyactors.protocol.user_events import OrderEvent, TradeEvent, UserEvent

OVERLAP_SECONDS = 300
"""How much further back trades are asked for than the newest that is known: `match_time` is the
exchange's clock in seconds, and a trade may be listed later than one that was matched after it."""
PENDING_BY_ID_MAX = 20
"""Trades that are not final and older than that, which are asked for by id: one that is never
settled would have all that was matched since listed again, each time. The list reaches back to
the others when there are more."""
PIECE_ROWS = 200
"""Rows that are applied at once: some 10 ms with what is told of them."""


@frozen
class Reconciliation:
    """A reconciliation that has begun."""

    markets: frozenset[str]
    """Which the channel is subscribed to; empty for all."""
    open_orders: frozenset[str]
    """Ids of the orders that were open when it began."""

    def concerns(self, market: str) -> bool:
        """Whether the channel speaks of this market: others cannot be kept current."""
        return not self.markets or market in self.markets


def begin(account: Account, markets: Iterable[str] = ()) -> Reconciliation:
    """Step 2, after the subscription was sent and before the first request."""
    subscribed = frozenset(market.lower() for market in markets)
    found = (
        order.id for order in account.open_orders() if not subscribed or order.market in subscribed
    )
    return Reconciliation(subscribed, frozenset(found))


def unlisted(account: Account, begun: Reconciliation, orders: Iterable[OrderEvent]) -> list[str]:
    """Step 3: ids of orders that were open, are not in the list, and are not closed by now."""
    listed = {order.id for order in orders}
    still_open = {order.id for order in account.open_orders()}
    return sorted((begun.open_orders - listed) & still_open)


def trades_after_s(account: Account, begun: Reconciliation, orders: Iterable[OrderEvent]) -> int:
    """Step 4: the second after which trades have to be listed; `orders` is the list of step 3.

    That is what the last reconciliation left open, or earlier: of an order that is partly matched
    every trade has to be known, or its sum could not tell what became of it.
    """
    coverage = account.coverage
    is_covered = coverage is not None and _covers(coverage, begun)
    after_s = coverage.to_s if coverage is not None and is_covered else account.since_s
    created = _unexplained(account, begun, orders).values()
    oldest_s = min(created, default=after_s + OVERLAP_SECONDS)
    # Whether `after` includes its own second is not documented: it is taken not to.
    found_s = min(after_s, oldest_s - OVERLAP_SECONDS) - 1
    pending = sorted(trade.match_time_s for trade in _pending(account, begun))
    too_many = [match_time_s for match_time_s in pending if match_time_s <= found_s]
    if len(too_many) > PENDING_BY_ID_MAX:
        found_s = too_many[PENDING_BY_ID_MAX] - 1
    return max(0, found_s)


def pending_before(account: Account, begun: Reconciliation, after_s: int) -> list[str]:
    """Step 4: ids of trades that are not final, and not in a list of those after `after_s`."""
    found = (trade for trade in _pending(account, begun) if trade.match_time_s <= after_s)
    return sorted(trade.id for trade in found)


def pending(account: Account, begun: Reconciliation, latest_s: int) -> set[str]:
    """Ids of trades that are not final, and were matched by `latest_s`: what was read in step 4
    has them, unless REST does not know them."""
    return {trade.id for trade in _pending(account, begun) if trade.match_time_s <= latest_s}


def pieces(
    account: Account,
    begun: Reconciliation,
    orders: Sequence[OrderEvent],
    trades: Sequence[TradeEvent],
    after_s: int,
    size: int = PIECE_ROWS,
) -> Iterator[list[UserEvent]]:
    """Step 5: the rows to apply, in order, and so few at a time that nothing else has to wait.

    `after_s` is what the trades were asked with. Before the next `cover` nothing younger is
    forgotten, or rows of a later piece could not be told from those of a trade that was.
    """
    account.keep_trades_after(after_s)
    needed = _unexplained(account, begun, orders).keys()
    rows: list[UserEvent] = [*orders, *sorted(trades, key=matched_at_s)]
    for at in range(0, len(rows), size):
        yield [row for row in rows[at : at + size] if _is_wanted(account, begun, row, needed)]


def cover(
    account: Account,
    begun: Reconciliation,
    orders: Iterable[OrderEvent],
    trades: Iterable[TradeEvent],
    now_s: int,
) -> None:
    """The end of step 5: both lists were read to their ends, and applied.

    A trade may be of any second, as the exchange says; that others are known up to there, which
    are not matched yet, does not follow: `now_s`, by our clock, is the limit.
    """
    coverage = account.coverage
    is_covered = coverage is not None and _covers(coverage, begun)
    known_to_s = coverage.to_s if coverage is not None and is_covered else account.since_s
    newest_s = max((matched_at_s(row) for row in trades if begun.concerns(row.market)), default=0)
    listed = {row.id for row in orders if begun.concerns(row.market)}
    account.cover(
        Coverage(
            to_s=max(known_to_s, min(newest_s, now_s) - OVERLAP_SECONDS),
            markets=begun.markets,
            explained_orders=begun.open_orders | listed,
        )
    )


def _pending(account: Account, begun: Reconciliation) -> Iterator[Trade]:
    for trade in account.trades.values():
        if not trade.is_final and begun.concerns(trade.market):
            yield trade


def _unexplained(
    account: Account, begun: Reconciliation, orders: Iterable[OrderEvent]
) -> dict[str, int]:
    """When orders were created of which trades may be unknown, however old: partly matched, or
    gone."""
    listed = list(orders)
    found = {
        order.id: order.created_at_s
        for order in listed
        if order.size_matched and begun.concerns(order.market)
    }
    for order_id in unlisted(account, begun, listed):
        found[order_id] = account.orders[order_id].created_at_s
    coverage = account.coverage
    if coverage is not None and _covers(coverage, begun):
        for order_id in coverage.explained_orders:
            found.pop(order_id, None)
    return found


def _is_wanted(
    account: Account, begun: Reconciliation, row: UserEvent, needed: Collection[str]
) -> bool:
    """Not what was matched before the beginning that the user chose, unless an order needs it."""
    if not begun.concerns(row.market):
        return False
    if isinstance(row, OrderEvent) or row.id in account.trades:
        return True
    if matched_at_s(row) >= account.since_s or row.taker_order_id in needed:
        return True
    return any(fill.order_id in needed for fill in row.maker_fills)


def _covers(coverage: Coverage, begun: Reconciliation) -> bool:
    """Whether what was complete is all that is asked for now."""
    if not coverage.markets:
        return True
    return bool(begun.markets) and begun.markets <= coverage.markets
