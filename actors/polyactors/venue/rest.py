"""The REST side of the emulated exchange: CLOB, Gamma, and the oracle and controls.

Answers are as Polymarket gives them, errors included (PROTOCOL.md section 5). What is under
/venue is ours: it is never faulted, and tests hold it against what a client believes.
"""

import json
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from polyactors.book.numbers import PRICE_ONE
from polyactors.venue import account_controls, account_rest, gamma, wire
from polyactors.venue.engine import MIN_ORDER_SIZE, YES
from polyactors.venue.faults import FaultKind, FaultRecord, NoTarget
from polyactors.venue.listing import OUTCOMES

if TYPE_CHECKING:
    from polyactors.venue.exchange import Venue

BOOKS_MAX = 500
"""Tokens of one POST /books."""
_FAULT_ARGUMENTS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "token": str,
    "session": int,
    "seconds": (int, float),
    "variant": str,
    "reset": bool,
    "account": str,
    "about": str,
}


def make_app(venue: "Venue") -> Starlette:
    """An ASGI application; it keeps no state of its own."""
    return Starlette(
        routes=[
            *_clob_routes(venue),
            *account_rest.make_routes(venue),
            Mount("/gamma", routes=gamma.make_routes(venue)),
            Mount("/venue", routes=[*_control_routes(venue), *account_controls.make_routes(venue)]),
        ],
        middleware=[Middleware(_Faulted, venue=venue)],
        exception_handlers={ClientDisconnect: _answer_nobody},
    )


class _Faulted:
    """Lets the faults of REST at every request but those for /venue."""

    def __init__(self, app: ASGIApp, venue: "Venue") -> None:
        self._app = app
        self._venue = venue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] != "http" or scope["path"].startswith("/venue/")
        if is_ours or await self._venue.rest_faults.admit():
            await self._app(scope, receive, send)
        else:
            answer = PlainTextResponse("no healthy upstream", 503)
            await answer(scope, receive, send)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """A client that goes in the middle of its request is nobody's error."""
    return Response(status_code=400)


def _clob_routes(venue: "Venue") -> list[BaseRoute]:
    async def book(request: Request) -> Response:
        token = request.query_params.get("token_id")
        if not token:
            return _error(400, "Invalid token id")
        state = venue.rest_faults.answer(token)
        if state is None:
            return _error(404, "No orderbook exists for the requested token id")
        return _json(wire.rest_book(state))

    async def books(request: Request) -> Response:
        """Unknown tokens are left out without a word."""
        tokens = _wanted_tokens(await request.body())
        if tokens is None:
            return _error(400, "Invalid payload")
        if len(tokens) > BOOKS_MAX:
            return _error(400, "Payload exceeds the limit")
        states = map(venue.rest_faults.answer, tokens)
        return _json([wire.rest_book(state) for state in states if state is not None])

    async def tick_size(request: Request) -> Response:
        token = request.path_params.get("token") or request.query_params.get("token_id")
        if not token:
            return _error(400, "Invalid token id")
        state = venue.book_state(token)
        if state is None:
            return _error(404, "market not found")
        return _json({"minimum_tick_size": state.tick_size / PRICE_ONE})

    async def server_time(request: Request) -> Response:
        return _json(venue.timestamp_ms() // 1000)

    async def clob_market(request: Request) -> Response:
        market = venue.market(request.path_params["condition_id"])
        if market is None:
            return _error(404, "market not found")
        listing = market.listing
        return _json(
            {
                "c": listing.condition_id,
                "t": [
                    {"t": token, "o": outcome}
                    for token, outcome in zip(listing.tokens, OUTCOMES, strict=True)
                ],
                "mts": market.engine.states[YES].tick_size / PRICE_ONE,
                "mos": int(MIN_ORDER_SIZE),
                "ao": market.winner is None,
                "nr": listing.neg_risk,
                "mbf": 0,
                "tbf": 0,
            }
        )

    return [
        Route("/book", book),
        Route("/books", books, methods=["POST"]),
        Route("/tick-size", tick_size),
        Route("/tick-size/{token}", tick_size),
        Route("/time", server_time),
        Route("/clob-markets/{condition_id}", clob_market),
    ]


def _control_routes(venue: "Venue") -> list[BaseRoute]:
    async def books(request: Request) -> Response:
        return _json(venue.books())

    async def pause(request: Request) -> Response:
        venue.pause()
        return _json({"paused": venue.is_paused})

    async def resume(request: Request) -> Response:
        venue.resume()
        return _json({"paused": venue.is_paused})

    async def sessions(request: Request) -> Response:
        now = trio.current_time()
        return _json(
            [
                {
                    "id": session.id,
                    "tokens": list(session.tokens),
                    "custom_feature_enabled": session.custom,
                    "sent_frames": session.sent_frames,
                    "queued_frames": session.queued_frames,
                    "stalled": now < session.muted_until,
                    "slow": now < session.slow_until,
                }
                for session in venue.sessions.values()
            ]
        )

    async def faults(request: Request) -> Response:
        return _json(
            {
                "kinds": [kind.value for kind in FaultKind],
                "active": [_record(record) for record in venue.active_faults],
                "log": [_record(record) for record in venue.fault_log],
            }
        )

    async def inject(request: Request) -> Response:
        try:
            record = venue.inject(**_fault_arguments(await request.body()))
        except ValueError as error:
            return _error(400, str(error))
        except NoTarget as error:
            return _error(409, str(error))
        return _json(_record(record))

    return [
        Route("/books", books),
        Route("/pause", pause, methods=["GET", "POST"]),
        Route("/resume", resume, methods=["GET", "POST"]),
        Route("/sessions", sessions),
        Route("/faults", faults, methods=["GET"]),
        Route("/faults", inject, methods=["POST"]),
    ]


def _wanted_tokens(body: bytes) -> list[str] | None:
    """The token ids of a POST /books body; None when it is no list of such objects."""
    value = _parse(body)
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    ids = [cast("dict[str, object]", i).get("token_id") for i in items if isinstance(i, dict)]
    tokens = [token for token in ids if isinstance(token, str)]
    return tokens if len(tokens) == len(items) else None


def _fault_arguments(body: bytes) -> dict[str, Any]:
    """The arguments of `Venue.inject` in a POST /venue/faults body.

    Raises:
        ValueError: it is no object with a kind, or holds an unknown key or a wrong type.
    """
    value = _parse(body)
    arguments = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if "kind" not in arguments:
        raise ValueError('expected an object with a "kind"')
    for key, argument in arguments.items():
        expected = _FAULT_ARGUMENTS.get(key)
        if expected is None:
            raise ValueError(f"unknown key {key}, known are {', '.join(_FAULT_ARGUMENTS)}")
        if argument is not None and not isinstance(argument, expected):
            raise ValueError(f"{key} is of the wrong type")
    return arguments


def _parse(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _record(record: FaultRecord) -> dict[str, object]:
    return {**attrs.asdict(record), "hurt": list(record.hurt)}


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


def _json(value: object) -> Response:
    return Response(wire.to_json(value), media_type="application/json")
