"""An exchange of plain dictionaries, seen by one account: the model of `test_account_model`.

It knows nothing of the code under test: it speaks JSON text, as the wire does. Sizes are whole
hundredths of a share.
"""

import json
from typing import Any

API_KEY = "3e2c94ca-8124-c4c1-c7ea-be1ea21b71fe"
ADDRESS = "0xA3D82Ed56F4c68d2328Fb8c29e568Ba2cAF7d7c8"
MARKETS = ("0xm1", "0xm2")
COMPLEMENT = {"11": "12", "12": "11", "21": "22", "22": "21"}
MARKET_OF = {"11": "0xm1", "12": "0xm1", "21": "0xm2", "22": "0xm2"}
OTHER_SIDE = {"BUY": "SELL", "SELL": "BUY"}
NEXT = {
    "MATCHED": ("MINED", "RETRYING"),
    "MINED": ("CONFIRMED", "RETRYING"),
    "RETRYING": ("MINED", "FAILED"),
    "CONFIRMED": (),
    "FAILED": (),
}
PAGE_ROWS = 2


def text_of(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"


class Exchange:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000
        self.orders: dict[str, dict[str, Any]] = {}
        self.trades: dict[str, dict[str, Any]] = {}
        self.outbox: list[str] | None = None
        """Frames that are under way; None while nobody is connected."""

    # What happens

    def place(self, token: str, side: str, size: int) -> str:
        order_id = f"0xorder{len(self.orders)}"
        self.orders[order_id] = {
            "id": order_id,
            "token": token,
            "side": side,
            "original": size,
            "matched": 0,
            "cancelled": False,
            "created": self.now_s,
            # A second key of the same wallet, now and then: then the address tells.
            "owner": API_KEY if len(self.orders) % 3 else "another-key",
        }
        self.tell_of_order(order_id, "PLACEMENT")
        return order_id

    def open_orders(self) -> list[str]:
        return [order_id for order_id in self.orders if self.open_size(order_id)]

    def open_size(self, order_id: str) -> int:
        order = self.orders[order_id]
        return 0 if order["cancelled"] else order["original"] - order["matched"]

    def partners(self, token: str, side: str) -> list[str]:
        """Our open orders that an order of this token and side can be matched with."""
        return [
            order_id
            for order_id in self.open_orders()
            if (self.orders[order_id]["token"], self.orders[order_id]["side"])
            in ((token, OTHER_SIDE[side]), (COMPLEMENT[token], side))
        ]

    def match(self, taker: str | None, makers: list[tuple[str, int]], stranger: int) -> None:
        """One trade: `taker` is ours, or a stranger who takes from our `makers`."""
        trade_id = f"trade-{len(self.trades)}"
        fills: dict[str, int] = dict(makers)
        size = sum(fills.values()) + stranger
        if taker is None:
            first = self.orders[makers[0][0]]
            token, side = first["token"], OTHER_SIDE[first["side"]]
        else:
            token, side = self.orders[taker]["token"], self.orders[taker]["side"]
            fills[taker] = size
        for order_id, filled in fills.items():
            self.orders[order_id]["matched"] += filled
        rows = [
            {
                "order_id": order_id,
                "owner": self.orders[order_id]["owner"],
                "maker_address": ADDRESS.lower(),
                "matched_amount": text_of(filled),
                "price": "0.5",
                "asset_id": self.orders[order_id]["token"],
                "outcome": "Yes",
                "side": self.orders[order_id]["side"],
            }
            for order_id, filled in makers
        ]
        if len(self.trades) % 2:  # as it was in 2024
            for row in rows:
                del row["side"]
        if stranger:
            rows.append(
                {
                    "order_id": "0xstranger",
                    "owner": "stranger",
                    "maker_address": "0x0",
                    "matched_amount": text_of(stranger),
                    "price": "0.5",
                    "asset_id": token,
                    "outcome": "Yes",
                    "side": OTHER_SIDE[side],
                }
            )
        self.trades[trade_id] = {
            "id": trade_id,
            "taker": taker,
            "token": token,
            "side": side,
            "size": size,
            "rows": rows,
            "fills": fills,
            "status": "MATCHED",
            "history": ["MATCHED"],
            "matched_at": self.now_s,
            "updated_at": self.now_s,
        }
        for order_id in fills:
            self.tell_of_order(order_id, "UPDATE")
        self.tell_of_trade(trade_id)

    def cancel(self, order_id: str) -> None:
        self.orders[order_id]["cancelled"] = True
        self.tell_of_order(order_id, "CANCELLATION")

    def settle(self, trade_id: str, choice: int, *, told: bool) -> None:
        trade = self.trades[trade_id]
        self.now_s += 1
        trade["status"] = NEXT[trade["status"]][choice]
        trade["history"].append(trade["status"])
        trade["updated_at"] = self.now_s
        if told:  # statuses may be skipped
            self.tell_of_trade(trade_id)

    # What the wire says of it

    def order_row(self, order_id: str) -> dict[str, Any]:
        order = self.orders[order_id]
        status = "CANCELED" if order["cancelled"] else "LIVE"
        if order["matched"] == order["original"]:
            status = "MATCHED"
        return {
            "id": order_id,
            "status": status,
            "owner": order["owner"],
            "maker_address": ADDRESS,
            "market": MARKET_OF[order["token"]],
            "asset_id": order["token"],
            "side": order["side"],
            "original_size": text_of(order["original"]),
            "size_matched": text_of(order["matched"]),
            "price": "0.5",
            "outcome": "Yes",
            "expiration": "0",
            "order_type": "GTC",
            "associate_trades": None,
            "created_at": order["created"],
        }

    def trade_rows(self, trade_id: str) -> list[dict[str, Any]]:
        """The message of each side on which we are: both, when we traded with ourselves."""
        trade = self.trades[trade_id]
        taker = trade["taker"]
        row = {
            "id": trade_id,
            "taker_order_id": taker or "0xstrangers-taker",
            "market": MARKET_OF[trade["token"]],
            "asset_id": trade["token"],
            "side": trade["side"],
            "size": text_of(trade["size"]),
            "price": "0.5",
            "status": trade["status"],
            "match_time": str(trade["matched_at"]),
            "last_update": str(trade["updated_at"]),
            "outcome": "Yes",
            "owner": self.orders[taker]["owner"] if taker else "stranger",
            "trade_owner": self.orders[taker]["owner"] if taker else "stranger",
            "maker_address": ADDRESS if taker else "0x0",
            "transaction_hash": "",
            "bucket_index": 0,
            "fee_rate_bps": "0",
            "maker_orders": trade["rows"],
        }
        makers_of_ours = trade["fills"].keys() - {taker}
        sides = (["TAKER"] if taker else []) + (["MAKER"] if makers_of_ours else [])
        return [row | {"trader_side": side} for side in sides]

    def tell(self, *rows: dict[str, Any]) -> None:
        if self.outbox is not None:
            stamp = {"timestamp": str(self.now_s * 1000)}
            self.outbox += [json.dumps(row | stamp) for row in rows]

    def tell_of_order(self, order_id: str, kind: str) -> None:
        self.tell(self.order_row(order_id) | {"event_type": "order", "type": kind})

    def tell_of_trade(self, trade_id: str) -> None:
        self.tell(
            *(row | {"event_type": "trade", "type": "TRADE"} for row in self.trade_rows(trade_id))
        )

    # What REST says of it: pages are cut by offset, from the lists as they are then

    def orders_page(self, offset: int, order_id: str | None = None) -> bytes:
        rows = [
            self.order_row(known)
            for known in self.open_orders()
            if order_id is None or known == order_id
        ]
        return self._page(rows, offset)

    def trades_page(self, offset: int, after_s: int, wanted: str | None = None) -> bytes:
        rows = [
            {**row, "status": f"TRADE_STATUS_{row['status']}"}
            for trade_id in reversed(self.trades)
            if self.trades[trade_id]["matched_at"] > after_s and wanted in (None, trade_id)
            for row in self.trade_rows(trade_id)
        ]
        return self._page(rows, offset)

    @staticmethod
    def _page(rows: list[dict[str, Any]], offset: int) -> bytes:
        end = offset + PAGE_ROWS
        cursor = str(end) if end < len(rows) else "LTE="
        return json.dumps({"data": rows[offset:end], "next_cursor": cursor}).encode()
