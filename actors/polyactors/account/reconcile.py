"""What a reconnect missed, from the REST lists: the channel itself replays nothing.

The procedure, for which the shell awaits and this module decides:

1. Connect and send the subscription. From here on, apply what the channel says as it comes.
2. `begin`: remember which orders are open.
3. Ask for /data/orders, all pages. When there was more than one, ask for each order of
   `unlisted` by `id`, too, and add what comes: pages are cut by offset, so while an order
   closes between two pages, an open one can slip through.
4. Only then ask for /data/trades with `after=trades_after_s(…)`, all pages. (Trades slip through
   no cut, since none ever leaves the list.)
5. `finish`: apply the lists. The account is complete now. If the session ended before, or a row
   was unreadable, nothing is finished: begin again with the next session.

Why that is enough: an order that was known at 2 and is not listed at 3 was closed by then, so
all its trades are in the list of 4, and their sum tells a filled order from a cancelled one.
Whatever happens after 2 comes over the channel as well, before or after step 5; since an account
only grows, both leave the same, and the second to tell a fact reports nothing.

A session that is silently robbed of an event is healed in the same way by the next
reconciliation that begins when everything older has arrived: trades are complete up to the last
reconciliation, and not up to the last event.
"""

from collections.abc import Iterable, Sequence

from attrs import frozen

from polyactors.account.account import Account, Coverage
from polyactors.account.changes import Change
from polyactors.protocol.user_events import OrderEvent, TradeEvent

OVERLAP_SECONDS = 300
"""How much further back trades are asked for than the newest that is known: `match_time` is the
exchange's clock in seconds, and a trade may be listed later than one that was matched after it."""


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

    That is what the last reconciliation left open, or earlier: a trade that was not final may
    have gone on, and of an order that is partly matched every trade has to be known, or its sum
    could not tell what became of it.
    """
    coverage = account.coverage
    if coverage is None or not _covers(coverage, begun):
        after_s = account.since_s
        explained: frozenset[str] = frozenset()
    else:
        after_s = coverage.to_s
        explained = coverage.explained_orders
    pending = (
        trade.match_time_s
        for trade in account.trades.values()
        if not trade.is_final and begun.concerns(trade.market)
    )
    partly_matched = {
        order.id: order.created_at_s
        for order in orders
        if order.size_matched and begun.concerns(order.market)
    }
    vanished = {
        order_id: account.orders[order_id].created_at_s
        for order_id in unlisted(account, begun, orders)
    }
    created = (
        created_at_s
        for order_id, created_at_s in (partly_matched | vanished).items()
        if order_id not in explained
    )
    oldest_s = min((*pending, *created), default=after_s + OVERLAP_SECONDS)
    # Whether `after` includes its own second is not documented: it is taken not to.
    return max(0, min(after_s, oldest_s - OVERLAP_SECONDS) - 1)


def finish(
    account: Account,
    begun: Reconciliation,
    orders: Sequence[OrderEvent],
    trades: Sequence[TradeEvent],
) -> list[Change]:
    """Step 5: apply both complete lists; return what nobody had told, marked `reconciled`."""
    rows = [order for order in orders if begun.concerns(order.market)]
    matched = sorted(
        (trade for trade in trades if begun.concerns(trade.market)),
        key=lambda trade: trade.match_time_s,
    )
    changes = account.apply_all([*rows, *matched], reconciled=True)
    for order_id in unlisted(account, begun, rows):
        changes += account.close_missing(order_id)
    coverage = account.coverage
    is_covered = coverage is not None and _covers(coverage, begun)
    known_to_s = coverage.to_s if coverage is not None and is_covered else account.since_s
    newest_s = matched[-1].match_time_s if matched else 0
    account.cover(
        Coverage(
            to_s=max(known_to_s, newest_s - OVERLAP_SECONDS),
            markets=begun.markets,
            explained_orders=begun.open_orders | {row.id for row in rows},
        )
    )
    return changes


def _covers(coverage: Coverage, begun: Reconciliation) -> bool:
    """Whether what was complete is all that is asked for now."""
    if not coverage.markets:
        return True
    return bool(begun.markets) and begun.markets <= coverage.markets
