"""A listed market: its engine, its traders, and what is announced about it."""

from random import Random

from polyactors.book.numbers import to_text
from polyactors.venue import wire
from polyactors.venue.engine import MatchingEngine
from polyactors.venue.flow import COARSE_TICK, FINE_TICK, OrderFlow
from polyactors.venue.listing import OUTCOMES, Listing


class Market:
    """A listed market and its engine."""

    def __init__(self, listing: Listing, seed: int, timestamp_ms: int) -> None:
        self.listing = listing
        self.engine = MatchingEngine(
            market=listing.condition_id,
            tokens=listing.tokens,
            tick_size=FINE_TICK if listing.has_fine_tick else COARSE_TICK,
            neg_risk=listing.neg_risk,
            timestamp_ms=timestamp_ms,
        )
        rng = Random(f"{seed}:flow:{listing.index}")
        self.flow = OrderFlow(rng, self.engine, listing.anchor)
        self.flow.open_market(timestamp_ms, traded=listing.is_traded)
        self.winner: int | None = None
        """Position of the winning token once it is resolved: then it has no book any more."""

    def announce_new(self, timestamp_ms: int) -> wire.WireEvent:
        """Its `new_market`."""
        return wire.announcement("new_market", self._about(timestamp_ms))

    def announce_resolved(self, winner: int, timestamp_ms: int) -> wire.WireEvent:
        """Its `market_resolved`."""
        about = self._about(timestamp_ms)
        fields = {key: about[key] for key in ("id", "market", "assets_ids", "timestamp", "tags")}
        fields["winning_asset_id"] = self.listing.tokens[winner]
        fields["winning_outcome"] = OUTCOMES[winner]
        return wire.announcement("market_resolved", fields)

    def _about(self, timestamp_ms: int) -> dict[str, object]:
        """The fields of `new_market`, as recorded in 2026."""
        listing = self.listing
        return {
            "id": listing.id,
            "question": listing.question,
            "market": listing.condition_id,
            "slug": listing.slug,
            "description": listing.question,
            "assets_ids": list(listing.tokens),
            "outcomes": list(OUTCOMES),
            "event_message": {
                "id": listing.event_id,
                "ticker": listing.event_slug,
                "slug": listing.event_slug,
                "title": listing.event_title,
                "description": listing.event_title,
            },
            "timestamp": str(timestamp_ms),
            "tags": ["venue"],
            "condition_id": listing.condition_id,
            "active": True,
            "clob_token_ids": list(listing.tokens),
            "sports_market_type": "",
            "line": "",
            "game_start_time": "",
            "order_price_min_tick_size": to_text(self.engine.tick_size),
            "group_item_title": listing.question,
        }
