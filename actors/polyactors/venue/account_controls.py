"""Accounts by HTTP, under /venue: for tests in other processes. Ours, and never faulted.

- POST /venue/accounts opens one; the answer has its credentials.
- POST /venue/orders places an order, which is the answer.
- POST /venue/orders/cancel cancels orders; the answer has the ids of those that were open.
- POST /venue/accounts/revoke and /venue/accounts/restore: whether credentials are refused.
- GET /venue/account?account= is the truth about one: its orders, trades and positions.

The bodies are the classes below, as JSON objects. Numbers are texts, as on the wire. What cannot
be done is 400 with a sentence that says why, an account that is not there 404.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import cattrs
import msgspec
from attrs import frozen
from cattrs.v import format_exception
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyactors.book.numbers import Side, parse_units
from polyactors.venue import user_wire
from polyactors.venue.accounts import AccountCredentials, VenueAccount
from polyactors.venue.settlement import Settlement

if TYPE_CHECKING:
    from polyactors.venue.exchange import Venue


@frozen
class AccountOpening:
    """Body of POST /venue/accounts."""

    maker_address: str | None = None
    settlement: Settlement | None = None


@frozen
class AccountNaming:
    """Body of POST /venue/accounts/revoke and restore."""

    account: str
    """API key."""


@frozen
class Placement:
    """Body of POST /venue/orders."""

    account: str
    """API key."""
    token: str
    side: str
    """BUY or SELL."""
    price: str
    size: str
    type: str = "GTC"
    expiration: int = 0
    """Unix seconds; 0 for none."""
    settles: str | None = None
    """An `Outcome` for its trades."""


@frozen
class Cancelling:
    """Body of POST /venue/orders/cancel."""

    account: str
    """API key."""
    orders: tuple[str, ...] | None = None
    """Ids; none for all that are open."""


Body = TypeVar("Body", AccountOpening, AccountNaming, Placement, Cancelling)
_SIDES = {"BUY": Side.BID, "SELL": Side.ASK}
_converter = cattrs.Converter(forbid_extra_keys=True)


def make_routes(venue: "Venue") -> list[Route]:
    """The controls, relative to /venue."""

    def account_of(api_key: str) -> VenueAccount:
        account = venue.accounts.get(api_key)
        if account is None:
            raise LookupError(f"no account {api_key}")
        return account

    def open_account(body: AccountOpening) -> object:
        account = venue.add_account(maker_address=body.maker_address, settlement=body.settlement)
        credentials = account.credentials
        return {
            "api_key": credentials.api_key,
            "secret": credentials.secret,
            "passphrase": credentials.passphrase,
            "address": credentials.address,
            "maker_address": account.maker_address,
            "toml": _file_of(credentials),
        }

    def place(body: Placement) -> object:
        if body.side not in _SIDES:
            raise ValueError(f"a side is BUY or SELL, not {body.side}")
        order = account_of(body.account).place(
            body.token,
            _SIDES[body.side],
            parse_units(body.price),
            parse_units(body.size),
            body.type,
            expiration_s=body.expiration,
            settles=body.settles,
        )
        return user_wire.order_row(order, has_prefix=False)

    def cancel(body: Cancelling) -> object:
        account = account_of(body.account)
        if body.orders is None:
            return {"canceled": account.cancel_all()}
        wanted = set(body.orders)
        ids = [order.id for order in account.open_orders if order.id in wanted]
        for order_id in ids:
            account.cancel(order_id)
        return {"canceled": ids}

    def revoke(body: AccountNaming) -> object:
        account_of(body.account).revoke()
        return {"revoked": True}

    def restore(body: AccountNaming) -> object:
        account_of(body.account).restore()
        return {"revoked": False}

    async def truth(request: Request) -> Response:
        try:
            return JSONResponse(account_of(request.query_params.get("account", "")).oracle())
        except LookupError as error:
            return _error(404, str(error))

    return [
        _post("/accounts", AccountOpening, open_account),
        _post("/accounts/revoke", AccountNaming, revoke),
        _post("/accounts/restore", AccountNaming, restore),
        _post("/orders", Placement, place),
        _post("/orders/cancel", Cancelling, cancel),
        Route("/account", truth),
    ]


def _file_of(credentials: AccountCredentials) -> str:
    """The credentials as a client's file."""
    pairs = {
        "api_key": credentials.api_key,
        "api_secret": credentials.secret,
        "api_passphrase": credentials.passphrase,
        "address": credentials.address,
    }
    return "".join(f'{key} = "{value}"\n' for key, value in pairs.items())


def _post(path: str, shape: type[Body], act: Callable[[Body], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        content = await request.body()
        try:
            value: object = msgspec.json.decode(content) if content else {}
            if not isinstance(value, dict):
                raise ValueError("expected an object")
            return JSONResponse(act(_converter.structure(value, shape)))
        except cattrs.ClassValidationError as error:
            return _error(400, "; ".join(cattrs.transform_error(error, format_exception=_reason)))
        except LookupError as error:
            return _error(404, str(error))
        except (ValueError, msgspec.DecodeError) as error:
            return _error(400, str(error))

    return Route(path, endpoint, methods=["POST"])


def _reason(error: BaseException, expected: type | None) -> str:
    return str(error) if type(error) is ValueError else format_exception(error, expected)


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)
