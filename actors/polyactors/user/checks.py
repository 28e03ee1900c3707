"""What is said at once of an account that cannot be followed as it was asked for."""

import ipaddress
import re
from urllib.parse import urlsplit

from polyactors.discovery import listed, shown
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.transport import open_stream

_CONDITION_ID = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)


def check_markets(markets: object) -> tuple[str, ...]:
    """Condition ids, each once, in lower case as the exchange writes them. Raises UsageError for
    anything else."""
    found = listed("markets", markets)
    for market in found:
        if not isinstance(market, str) or not _CONDITION_ID.fullmatch(market):
            raise UsageError(
                f"{shown(market)} is no market of an account: expected a condition id, 0x and 64 "
                "hex digits"
            )
    return tuple(dict.fromkeys(str(market).lower() for market in found))


def check_secrecy(env: Environment) -> None:
    """Raises UsageError where the credentials would go over a network in clear text.

    The first frame of the channel holds them all, and every request of REST the key and the
    passphrase. A network of the caller's own is the caller's affair: it need not be one at all.
    """
    settings, network = env.settings, env.network
    if network.open_stream is open_stream:
        _check_url("ws_url", settings.ws_url, "wss")
    if network.http_transport is None:
        _check_url("clob_url", settings.clob_url, "https")


def _check_url(name: str, url: str, secure: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return  # no URL at all, which is said by whoever takes it apart
    if parts.scheme == secure.removesuffix("s") and not _is_this_machine(parts.hostname or ""):
        raise UsageError(
            f"{name} {url!r} would show the API credentials to everybody on the way: use "
            f"{secure}://, or an exchange on this machine (localhost, 127.0.0.1 or [::1])"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
