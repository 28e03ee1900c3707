"""API credentials (PROTOCOL.md, sections 3 and 5), which show themselves to nobody.

They come from the environment or from a file, never from the command line, which other users of
a machine can read. No function here raises while one of its own variables holds a secret: some
tools print the variables of a traceback.
"""

import base64
import binascii
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyactors.account.secrecy import REDACTED, Secretive, redacted
from polyactors.errors import UsageError

__all__ = ["REDACTED", "VARIABLES", "Credentials", "from_environment", "from_file"]

VARIABLES: Mapping[str, str] = {
    "api_key": "POLYMARKET_API_KEY",
    "api_secret": "POLYMARKET_API_SECRET",
    "api_passphrase": "POLYMARKET_API_PASSPHRASE",
    "address": "POLYMARKET_ADDRESS",
}
"""By name in the file: the name in the environment."""
LENGTH_MAX = 1000
"""Characters of one value; real ones have at most some 90."""
FILE_BYTES_MAX = 64 * 1024

_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class Credentials(Secretive):
    """API key, secret, passphrase, and the address that they were made for.

    `str`, `repr`, `format`, `vars`, `copy`, pickling and what serialises attrs or data classes
    show none of it, and two of them are never compared by value.

    Raises:
        UsageError: a value cannot be meant; the sentence names it without showing it.
    """

    __slots__ = ("_address", "_api_key", "_key", "_passphrase", "_secret")

    def __init__(self, api_key: str, secret: str, passphrase: str, address: str) -> None:
        key = _key_of(secret)
        fault = _fault(
            {"api_key": api_key, "api_secret": secret, "api_passphrase": passphrase}, address, key
        )
        if fault:
            del api_key, secret, passphrase, address, key
            raise UsageError(fault)
        self._api_key = api_key
        self._secret = secret
        self._passphrase = passphrase
        self._address = address
        self._key = key

    @property
    def api_key(self) -> str:
        """The `owner` of the account's orders."""
        return self._api_key

    @property
    def secret(self) -> str:
        """URL-safe base64: for the subscription only."""
        return self._secret

    @property
    def passphrase(self) -> str:
        """For the subscription and for the header POLY_PASSPHRASE."""
        return self._passphrase

    @property
    def address(self) -> str:
        """0x and 40 hex digits: the signer's, for the header POLY_ADDRESS."""
        return self._address

    @property
    def key(self) -> bytes:
        """What requests are signed with: the decoded secret."""
        return self._key

    def redact(self, text: str) -> str:
        """The text with every piece of the four values blacked out, in any case of letters."""
        values = (self._secret, self._passphrase, self._api_key, self._address)
        return redacted(text, values)


def from_environment(environ: Mapping[str, str]) -> Credentials:
    """The credentials of POLYMARKET_API_KEY, _API_SECRET, _API_PASSPHRASE and POLYMARKET_ADDRESS.

    Raises:
        UsageError: one is missing, or cannot be meant.
    """
    missing = [name for name in VARIABLES.values() if not environ.get(name)]
    made = _make({name: environ.get(variable) for name, variable in VARIABLES.items()}, "")
    if isinstance(made, Credentials):
        return made
    del environ
    if missing:
        raise UsageError(
            f"the user channel needs credentials: set {_listed(missing)} in the environment, or "
            "name a file with --credentials"
        )
    raise UsageError(made)


def from_file(path: Path) -> Credentials:
    """The credentials of a TOML file with api_key, api_secret, api_passphrase and address.

    Raises:
        UsageError: others than the owner can read it, or it does not hold these four texts.
    """
    made = _read(path)
    if isinstance(made, Credentials):
        return made
    raise UsageError(made)


def _read(path: Path) -> Credentials | str:
    """The credentials, or the sentence that says what is wrong: raised where no value is near."""
    try:
        with path.open("rb") as file:
            # Of what is open, not of the path: that may be another file a moment later.
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
                return f"others can read the credentials in {path}: chmod 600 {path}"
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return f"cannot read the credentials in {path}: {error.strerror or type(error).__name__}"
    if len(content) > FILE_BYTES_MAX:
        return f"{path} is too long for a file of credentials"
    try:
        table = tomllib.loads(content.decode())
    except ValueError:  # what tomllib says of the place may quote it
        return f'{path} is not TOML: it needs a line like api_key = "…" for each of {_NAMES}'
    if not table.keys() <= VARIABLES.keys():
        return f"{path} has names other than {_NAMES}"
    return _make(table, f" in {path}")


def _make(values: Mapping[str, Any], where: str) -> Credentials | str:
    for name in VARIABLES:
        if not isinstance(values.get(name), str) or not values[name]:
            return f"{name}{where} is missing, or no text"
    try:
        return Credentials(
            api_key=values["api_key"],
            secret=values["api_secret"],
            passphrase=values["api_passphrase"],
            address=values["address"],
        )
    except UsageError as error:
        return f"{error}{where}"


def _fault(printed: Mapping[str, str], address: str, key: bytes) -> str:
    """What is wrong with these values, without showing any; "" when nothing is."""
    for name, value in printed.items():
        if len(value) > LENGTH_MAX or not _PRINTABLE.fullmatch(value):
            what = f"1 to {LENGTH_MAX} printable characters without blanks"
            return f"{name} ({VARIABLES[name]}) must be {what}"
    if not key:
        return f"api_secret ({VARIABLES['api_secret']}) must be URL-safe base64"
    if not _ADDRESS.fullmatch(address):
        return f"address ({VARIABLES['address']}) must be 0x and 40 hex digits"
    return ""


def _key_of(secret: str) -> bytes:
    """The decoded secret; empty when it is no base64 (both alphabets, as official clients)."""
    try:
        return base64.b64decode(secret.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


_NAMES = _listed(list(VARIABLES))
