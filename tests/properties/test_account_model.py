"""The account against an exchange of plain dictionaries: whatever the interleaving of events,
duplicates, losses, reconnects and REST pages, nothing false is said, and in the end all is."""

from collections.abc import Iterator, Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.properties.account_exchange import (
    ADDRESS,
    API_KEY,
    COMPLEMENT,
    NEXT,
    Exchange,
)

from polyactors.account.account import FINAL_TRADES_MAX, Account
from polyactors.account.changes import Change, OrderChanged, PositionChanged, TradeChanged
from polyactors.account.orders import Order, OrderState
from polyactors.account.reconcile import (
    Reconciliation,
    begin,
    cover,
    pending_before,
    pieces,
    trades_after_s,
    unlisted,
)
from polyactors.account.trades import Owner, Trade
from polyactors.protocol.user_codec import UserCodec
from polyactors.protocol.user_events import OrderEvent, TradeEvent, UserEvent
from polyactors.protocol.user_rest import decode_orders_page, decode_trades_page

UNITS = 10**7
"""Units in a hundredth of a share, which is what the exchange counts in."""
INDEX = st.integers(0, 30)
SIZE = st.integers(1, 300)
TOKENS = st.sampled_from(sorted(COMPLEMENT))
SIDES = st.sampled_from(("BUY", "SELL"))


class AccountAgainstExchange(RuleBasedStateMachine):
    @initialize(
        since=st.sampled_from((0, 1_700_000_000, 1_700_000_500)),
        final_trades_max=st.sampled_from((0, 1, FINAL_TRADES_MAX)),
        history=st.lists(st.tuples(TOKENS, SIDES, SIZE, SIZE), max_size=3),
    )
    def start(
        self, since: int, final_trades_max: int, history: list[tuple[str, str, int, int]]
    ) -> None:
        self.exchange = Exchange()
        for token, side, size, matched in history:
            order_id = self.exchange.place(token, side, size)
            self.exchange.match(None, [(order_id, min(size, matched))], 0)
        self.since_s = since
        self.account = Account(
            Owner(API_KEY, ADDRESS), since_s=since, final_trades_max=final_trades_max
        )
        self.remembers_all = final_trades_max == FINAL_TRADES_MAX
        self.delivered: list[str] = []
        self.reconciliation: Reconciliation | None = None
        self.orders: list[OrderEvent] = []
        self.trades: list[TradeEvent] = []
        self.cursor: str | None = None
        self.before: set[str] | None = None
        self.missing: list[str] | None = None
        self.to_ask: list[str] = []
        self.after_s: int | None = None
        self.pending: list[str] = []
        self.pieces: Iterator[list[UserEvent]] | None = None
        self.is_robbed = False
        self.is_complete = False
        # What the changes alone say.
        self.told_orders: dict[str, Order] = {}
        self.told_trades: dict[str, Trade] = {}
        self.told_positions: dict[str, int] = {}
        self.moves: dict[tuple[str, str], list[int]] = {}

    # The life of orders and trades

    @rule(token=TOKENS, side=SIDES, size=SIZE)
    def place(self, token: str, side: str, size: int) -> None:
        self.exchange.place(token, side, size)

    @precondition(lambda self: self.exchange.open_orders())
    @rule(index=INDEX, second=INDEX, size=SIZE, second_size=SIZE, stranger=st.integers(0, 50))
    def a_stranger_takes(
        self, index: int, second: int, size: int, second_size: int, stranger: int
    ) -> None:
        exchange = self.exchange
        order_id = _pick(exchange.open_orders(), index)
        order = exchange.orders[order_id]
        makers = [(order_id, min(size, exchange.open_size(order_id)))]
        alike = [
            other
            for other in exchange.open_orders()
            if other != order_id
            and (exchange.orders[other]["token"], exchange.orders[other]["side"])
            == (order["token"], order["side"])
        ]
        if alike and second % 2:
            other = _pick(alike, second)
            makers.append((other, min(second_size, exchange.open_size(other))))
        exchange.match(None, makers, stranger)

    @precondition(lambda self: self.exchange.open_orders())
    @rule(index=INDEX, partner=INDEX, size=SIZE, with_ourselves=st.booleans())
    def we_take(self, index: int, partner: int, size: int, with_ourselves: bool) -> None:
        exchange = self.exchange
        taker = _pick(exchange.open_orders(), index)
        order = exchange.orders[taker]
        size = min(size, exchange.open_size(taker))
        partners = exchange.partners(order["token"], order["side"])
        makers: list[tuple[str, int]] = []
        if partners and with_ourselves:
            maker = _pick(partners, partner)
            makers = [(maker, min(size, exchange.open_size(maker)))]
        exchange.match(taker, makers, size - sum(filled for _, filled in makers))

    @precondition(lambda self: self.exchange.open_orders())
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        self.exchange.cancel(_pick(self.exchange.open_orders(), index))

    @precondition(lambda self: self.unsettled())
    @rule(index=INDEX, choice=st.integers(0, 1), told=st.booleans())
    def settle(self, index: int, choice: int, told: bool) -> None:
        trade_id = _pick(self.unsettled(), index)
        self.exchange.settle(trade_id, choice, told=told)
        self.is_robbed |= not told

    @rule(seconds=st.sampled_from((0, 1, 100, 400, 5_000)))
    def time_passes(self, seconds: int) -> None:
        self.exchange.now_s += seconds

    # The channel

    @precondition(lambda self: self.exchange.outbox)
    @rule(index=INDEX)
    def deliver(self, index: int) -> None:
        assert self.exchange.outbox
        frame = self.exchange.outbox.pop(index % len(self.exchange.outbox))
        self.delivered.append(frame)
        self.receive(frame)

    @precondition(lambda self: self.delivered)
    @rule(index=INDEX)
    def deliver_again(self, index: int) -> None:
        self.receive(_pick(self.delivered, index))

    @precondition(lambda self: self.exchange.outbox)
    @rule(index=INDEX)
    def lose(self, index: int) -> None:
        assert self.exchange.outbox
        self.exchange.outbox.pop(index % len(self.exchange.outbox))
        self.is_robbed = True

    @rule()
    def disconnect(self) -> None:
        self.exchange.outbox = None
        self.delivered = []
        self.reconciliation = None
        self.is_complete = False

    # Reconciling, one request at a time

    @rule()
    def begin(self) -> None:
        if self.exchange.outbox is None:
            self.exchange.outbox = []
        if self.account.coverage is None:
            self.exchange.now_s = max(self.exchange.now_s, self.since_s)
        self.reconciliation = begin(self.account)
        self.orders, self.trades, self.cursor = [], [], None
        self.before, self.missing, self.after_s, self.pieces = None, None, None, None
        # What is lost is healed once nothing older is under way: a PLACEMENT that arrives late
        # opens the order again when its CANCELLATION was lost before.
        self.is_robbed = self.is_robbed and bool(self.exchange.outbox)
        self.is_complete = False

    @precondition(lambda self: self.reconciliation)
    @rule()
    def ask(self) -> None:
        assert self.reconciliation is not None
        if self.missing is None:
            self.ask_for_orders()
        elif self.to_ask:
            page = decode_orders_page(self.exchange.orders_page(0, self.to_ask.pop()))
            self.orders += page.rows
            self.missing = [one for one in self.missing if one not in {o.id for o in page.rows}]
        elif self.after_s is None:
            account, begun = self.account, self.reconciliation
            self.after_s = trades_after_s(account, begun, self.orders)
            self.pending = pending_before(account, begun, self.after_s)
        elif self.pending:
            answer = self.exchange.trades_page(0, 0, self.pending.pop())
            self.trades += decode_trades_page(answer).rows
        elif self.cursor != "":
            answer = self.exchange.trades_page(int(self.cursor or 0), self.after_s)
            trades = decode_trades_page(answer)
            assert not trades.unreadable
            self.trades += trades.rows
            self.cursor = trades.next_cursor
        else:
            self.apply(self.reconciliation, self.after_s)

    def ask_for_orders(self) -> None:
        """One page; after the last one it is done, or begun again until two readings agree."""
        assert self.reconciliation is not None
        page = decode_orders_page(self.exchange.orders_page(int(self.cursor or 0)))
        assert not page.unreadable
        had_pages = self.cursor is not None
        self.orders += page.rows
        self.cursor = page.next_cursor or None
        if page.next_cursor:
            return
        listed = {order.id for order in self.orders}
        if not had_pages or (self.before is not None and self.before <= listed):
            self.missing = unlisted(self.account, self.reconciliation, self.orders)
            self.to_ask = list(self.missing)
        else:
            self.before, self.orders = listed, []

    def apply(self, begun: Reconciliation, after_s: int) -> None:
        """One piece, or the end."""
        assert self.missing is not None
        if self.pieces is None:
            self.pieces = pieces(self.account, begun, self.orders, self.trades, after_s, 2)
        piece = next(self.pieces, None)
        if piece is not None:
            self.note(self.account.apply_all(piece, reconciled=True), reconciled=True)
            return
        self.note(self.account.settle_disputes(self.orders), reconciled=True)
        for order_id in self.missing:
            self.note(self.account.close_missing(order_id), reconciled=True)
        cover(self.account, begun, self.orders, self.trades, self.exchange.now_s)
        self.reconciliation = None
        self.is_complete = True

    @rule()
    def give_up(self) -> None:
        """A list cannot be read to its end: what was read of the trades is true."""
        is_applied = self.pieces is not None
        if self.reconciliation is not None and self.after_s is not None and not is_applied:
            begun, after_s = self.reconciliation, self.after_s
            for piece in pieces(self.account, begun, self.orders, self.trades, after_s, 2):
                self.note(self.account.apply_all(piece, reconciled=True), reconciled=True)
            self.note(self.account.settle_disputes(self.orders), reconciled=True)
        self.reconciliation = None
        self.is_complete = False

    @rule()
    def reconcile(self) -> None:
        """All of it at once, which random single steps seldom reach."""
        self.begin()
        while self.reconciliation is not None:
            self.ask()

    # Stories that random single steps seldom tell

    @precondition(lambda self: self.exchange.outbox is not None)
    @rule(token=TOKENS, side=SIDES, size=SIZE)
    def place_and_hear_of_it(self, token: str, side: str, size: int) -> None:
        self.exchange.place(token, side, size)
        self.deliver(-1)

    @precondition(lambda self: self.exchange.open_orders())
    @rule(index=INDEX, seconds=st.sampled_from((0, 400)))
    def fill_the_rest_in_a_gap(self, index: int, seconds: int) -> None:
        self.disconnect()
        self.exchange.now_s += seconds
        order_id = _pick(self.exchange.open_orders(), index)
        self.exchange.match(None, [(order_id, self.exchange.open_size(order_id))], 0)
        self.reconcile()

    @precondition(lambda self: self.unsettled())
    @rule(choice=st.integers(0, 1), seconds=st.sampled_from((0, 400)))
    def settle_everything(self, choice: int, seconds: int) -> None:
        for trade_id in self.unsettled():
            while NEXT[self.exchange.trades[trade_id]["status"]]:
                is_retrying = self.exchange.trades[trade_id]["status"] == "RETRYING"
                self.exchange.settle(trade_id, 1 if is_retrying else choice, told=True)
        self.exchange.now_s += seconds

    # What must hold

    @invariant()
    def nothing_false_is_said(self) -> None:
        assert self.account.impossible == 0
        for order in self.account.orders.values():
            truth = self.exchange.orders[order.id]
            assert order.size_matched <= truth["matched"] * UNITS
            if order.state is OrderState.FILLED:
                assert truth["matched"] == truth["original"]
            if order.state is OrderState.CANCELLED:
                assert truth["cancelled"]
        for trade in self.account.trades.values():
            truth = self.exchange.trades[trade.id]
            assert trade.status.value in truth["history"]
            assert {fill.order_id: fill.size for fill in trade.fills} == {
                order_id: size * UNITS for order_id, size in truth["fills"].items()
            }

    @invariant()
    def the_changes_alone_tell_the_same(self) -> None:
        assert self.told_orders.keys() == self.account.orders.keys()
        assert all(
            order.says_the_same(self.told_orders[order.id])
            for order in self.account.orders.values()
        )
        for trade in self.account.trades.values():
            assert trade.status is self.told_trades[trade.id].status
            assert trade.fills == self.told_trades[trade.id].fills
        assert self.account.positions == {
            token: size for token, size in self.told_positions.items() if size
        }
        assert self.account.positions == self.positions_of(self.told_trades)

    @precondition(lambda self: self.is_complete and not self.is_robbed)
    @rule()
    def in_the_end_all_is_said(self) -> None:
        assert self.exchange.outbox is not None
        while self.exchange.outbox:
            self.deliver(0)
        for order_id in self.exchange.open_orders():
            assert order_id in self.account.orders
        for order in self.account.orders.values():
            truth = self.exchange.orders[order.id]
            assert order.size_matched == truth["matched"] * UNITS
            assert order.open_size == self.exchange.open_size(order.id) * UNITS
            assert (order.state is OrderState.OPEN) == bool(order.open_size)
        for trade_id, truth in self.exchange.trades.items():
            if truth["matched_at"] >= self.since_s:
                assert trade_id in self.told_trades
            if trade_id in self.told_trades:
                assert self.told_trades[trade_id].status.value == truth["status"]
        if self.remembers_all:
            assert self.account.trades.keys() == self.told_trades.keys()

    # Helpers

    def receive(self, frame: str) -> None:
        decoded = UserCodec().receive_frame(frame)
        assert len(decoded.events) == 1
        assert not decoded.unknown_fields
        self.note(self.account.apply(decoded.events[0]), reconciled=False)

    def note(self, changes: Sequence[Change], *, reconciled: bool) -> None:
        """Each change follows from the one before: no fact is told twice, or left out."""
        for change in changes:
            assert change.reconciled is reconciled
            if isinstance(change, OrderChanged):
                known = self.told_orders.get(change.new.id)
                assert (known is None) == (change.old is None)
                if known is not None:
                    assert change.old is not None
                    assert change.old.says_the_same(known)
                    assert not change.new.says_the_same(known)
                    assert change.filled_size >= 0
                    was_final = change.old.state is not OrderState.OPEN and not known.is_missing
                    assert not was_final or change.old.state is change.new.state
                self.told_orders[change.new.id] = change.new
            elif isinstance(change, TradeChanged):
                trade = self.told_trades.get(change.new.id)
                assert (trade is None) == (change.old is None)
                assert trade is None or trade.status is not change.new.status
                self.told_trades[change.new.id] = change.new
            else:
                assert isinstance(change, PositionChanged)
                assert change.old == self.told_positions.get(change.token, 0)
                self.told_positions[change.token] = change.new
                fill = change.fill
                moves = self.moves.setdefault((fill.trade_id, fill.order_id), [])
                moves.append(change.new - change.old)
                assert moves in (
                    [fill.position_change],
                    [fill.position_change, -fill.position_change],
                )

    def positions_of(self, trades: dict[str, Trade]) -> dict[str, int]:
        """By the exchange's own books, of trades that are known, unless they are known to fail."""
        positions: dict[str, int] = {}
        for trade_id, known in trades.items():
            if known.status.value == "FAILED":
                continue
            for order_id, size in self.exchange.trades[trade_id]["fills"].items():
                order = self.exchange.orders[order_id]
                signed = size * UNITS if order["side"] == "BUY" else -size * UNITS
                positions[order["token"]] = positions.get(order["token"], 0) + signed
        return {token: size for token, size in positions.items() if size}

    def unsettled(self) -> list[str]:
        trades = self.exchange.trades
        return [trade_id for trade_id in trades if NEXT[trades[trade_id]["status"]]]


def _pick(names: Sequence[str], index: int) -> str:
    return names[index % len(names)]


TestAccountAgainstExchange = AccountAgainstExchange.TestCase
TestAccountAgainstExchange.settings = settings(
    settings.get_profile("default"), max_examples=150, stateful_step_count=60
)
