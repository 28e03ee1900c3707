"""Discovery as Gamma answers it: market and event objects, selection, keyset pages.

`clobTokenIds`, `outcomes` and `outcomePrices` are strings that hold JSON, as on the real
service; whole sizes, prices and volumes are JSON numbers.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, cast

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from polyactors.book.numbers import PRICE_ONE, to_text
from polyactors.venue import wire
from polyactors.venue.engine import MIN_ORDER_SIZE, YES
from polyactors.venue.listing import OUTCOMES

if TYPE_CHECKING:
    from polyactors.venue.exchange import Venue
    from polyactors.venue.market import Market

PAGE_DEFAULT = 20
"""Markets on a page when the request does not say."""
PAGE_MAX = 1000
"""Markets on a page at most; a greater limit is cut to it."""

Json = dict[str, object]


class BadQuery(ValueError):  # noqa: N818 - the name is the fact
    """A parameter that Gamma answers with 422."""


def make_routes(venue: "Venue") -> Sequence[BaseRoute]:
    """The routes under /gamma."""

    def listed() -> list[Json]:
        return [market_object(venue.market_at(listing)) for listing in venue.markets]

    async def keyset(request: Request) -> Response:
        return _answer(lambda: _keyset_page(listed(), request.query_params))

    async def markets(request: Request) -> Response:
        # The legacy listing leaves closed markets out unless asked for them.
        query = request.query_params
        return _answer(lambda: _offset_page(_selected(listed(), query, "false"), query))

    async def events(request: Request) -> Response:
        query = request.query_params
        return _answer(lambda: _offset_page(_selected(_events(listed()), query), query))

    def one(objects: Callable[[], list[Json]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            ((key, wanted),) = request.path_params.items()
            found = next((item for item in objects() if item[key] == wanted), None)
            if found is None:
                return JSONResponse({"type": "not found error", "error": f"{key} not found"}, 404)
            return _json(found)

        return endpoint

    return [
        Route("/markets/keyset", keyset),
        Route("/markets", markets),
        Route("/markets/slug/{slug}", one(listed)),
        Route("/markets/{id}", one(listed)),
        Route("/events", events),
        Route("/events/slug/{slug}", one(lambda: _events(listed()))),
        Route("/events/{id}", one(lambda: _events(listed()))),
    ]


def market_object(market: "Market") -> Json:
    """One market, with the fields that clients need (PROTOCOL.md section 5)."""
    listing, state = market.listing, market.engine.states[YES]
    is_open = market.winner is None
    middle = (state.best_bid + state.best_ask) // 2
    volume = round(listing.volume + market.engine.volume / PRICE_ONE, 2)
    liquidity = round(sum(size for _, size in (*state.bids, *state.asks)) / PRICE_ONE, 2)
    prices = [middle, PRICE_ONE - middle]
    if market.winner is not None:
        prices = [0, 0]
        prices[market.winner] = PRICE_ONE
    return {
        "id": listing.id,
        "question": listing.question,
        "conditionId": listing.condition_id,
        "slug": listing.slug,
        "startDate": "2026-01-01T00:00:00Z",
        "endDate": "2099-12-31T00:00:00Z",
        "description": listing.question,
        "outcomes": json.dumps(list(OUTCOMES)),
        "outcomePrices": json.dumps([to_text(price) for price in prices]),
        "clobTokenIds": json.dumps(list(listing.tokens)),
        "active": True,
        "closed": not is_open,
        "archived": False,
        "enableOrderBook": True,
        "acceptingOrders": is_open,
        "negRisk": listing.neg_risk,
        "orderPriceMinTickSize": state.tick_size / PRICE_ONE,
        "orderMinSize": int(MIN_ORDER_SIZE),
        "volume": str(volume),
        "volumeNum": volume,
        "volume24hr": volume,
        "liquidity": str(liquidity),
        "liquidityNum": liquidity,
        "bestBid": state.best_bid / PRICE_ONE,
        "bestAsk": state.best_ask / PRICE_ONE,
        "spread": (state.best_ask - state.best_bid) / PRICE_ONE,
        "lastTradePrice": float(state.last_trade_price or 0),
        "events": [
            {
                "id": listing.event_id,
                "ticker": listing.event_slug,
                "slug": listing.event_slug,
                "title": listing.event_title,
                "negRisk": listing.neg_risk,
            }
        ],
    }


def _events(markets: list[Json]) -> list[Json]:
    """The events of all markets, each with its markets."""

    def event_of(market: Json) -> Json:
        return cast("list[Json]", market["events"])[0]

    return [
        {
            **event,
            "active": True,
            "closed": all(market["closed"] for market in members),
            "archived": False,
            "enableOrderBook": True,
            "volume": _total(members, "volumeNum"),
            "volume24hr": _total(members, "volume24hr"),
            "liquidity": _total(members, "liquidityNum"),
            "markets": [{k: v for k, v in member.items() if k != "events"} for member in members],
        }
        for event, group in groupby(markets, event_of)
        for members in [list(group)]
    ]


def _total(markets: list[Json], key: str) -> float:
    values = (market[key] for market in markets)
    return round(sum(value for value in values if isinstance(value, float)), 2)


def _selected(
    items: list[Json], query: QueryParams, default_closed: str | None = None
) -> list[Json]:
    """What the filters leave, in the order asked for; ids ascending when none is asked for."""
    for name, key in (("slug", "slug"), ("condition_ids", "conditionId"), ("id", "id")):
        wanted = query.getlist(name)
        if wanted:
            items = [item for item in items if item.get(key) in wanted]
    tokens = query.getlist("clob_token_ids")
    if tokens:
        items = [i for i in items if set(tokens) & set(json.loads(str(i["clobTokenIds"])))]
    for name, default in (("closed", default_closed), ("active", None), ("archived", None)):
        wanted_flag = query.get(name, default)
        if wanted_flag is not None:
            items = [item for item in items if item[name] is _flag(name, wanted_flag)]
    ascending = _flag("ascending", query.get("ascending", "true"))
    return sorted(items, key=_sort_key(items, query), reverse=not ascending)


def _sort_key(items: list[Json], query: QueryParams) -> Callable[[Json], tuple[float, int]]:
    """The field of `order` (volume24hr, or snake case volume_24hr), then the id."""
    order = query.get("order", "id")
    field = next(
        (
            key
            for item in items[:1]
            for key in item
            if key.lower() == order.replace("_", "").lower()
        ),
        None,
    )
    if items and field is None:
        raise BadQuery(f"order: no such field {order}")

    def key(item: Json) -> tuple[float, int]:
        value = item[field] if field is not None else 0
        number = float(value) if isinstance(value, int | float | str) and _is_number(value) else 0.0
        return (number, int(str(item["id"])))

    return key


def _is_number(value: float | str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _keyset_page(listed: list[Json], query: QueryParams) -> Json:
    """The page after the cursor; `next_cursor` is absent on the last one.

    The cursor names the last item seen by its sort key, not by its position, so markets that
    are added meanwhile are not seen twice.
    """
    if "offset" in query:
        raise BadQuery("offset is not supported, use after_cursor")
    items = _selected(listed, query)
    key = _sort_key(listed, query)
    ascending = _flag("ascending", query.get("ascending", "true"))
    cursor = query.get("after_cursor")
    if cursor:
        seen = _read_cursor(cursor)
        items = [item for item in items if (key(item) > seen if ascending else key(item) < seen)]
    limit = _limit(query)
    page: Json = {"markets": items[:limit]}
    if len(items) > limit:
        page["next_cursor"] = _write_cursor(key(items[limit - 1]))
    return page


def _write_cursor(key: tuple[float, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read_cursor(cursor: str) -> tuple[float, int]:
    try:
        value, number = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return float(value), int(number)
    except (ValueError, TypeError):
        raise BadQuery("after_cursor: invalid cursor") from None


def _offset_page(items: list[Json], query: QueryParams) -> list[Json]:
    offset = _count(query, "offset", 0)
    return items[offset : offset + _limit(query)]


def _limit(query: QueryParams) -> int:
    return min(max(_count(query, "limit", PAGE_DEFAULT), 1), PAGE_MAX)


def _count(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise BadQuery(f"{name}: must be a non-negative integer")
    return int(text)


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadQuery(f"{name}: must be true or false")
    return text.lower() == "true"


def _answer(compute: Callable[[], object]) -> Response:
    try:
        return _json(compute())
    except BadQuery as error:
        return JSONResponse({"type": "validation error", "error": str(error)}, 422)


def _json(value: object) -> Response:
    return Response(wire.to_json(value), media_type="application/json")
