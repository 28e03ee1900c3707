"""The headers that sign a REST request: "L2" of the CLOB (PROTOCOL.md, section 5).

As the official Python client does it (py-clob-client, signing/hmac.py and headers/headers.py):
the signature is HMAC-SHA256 with the decoded secret over timestamp, method, path and body, in
URL-safe base64 with its padding. The path is signed without the query.
"""

import base64
import hmac

from polyactors.account.credentials import Credentials
from polyactors.account.secrecy import HiddenHeaders


def l2_headers(
    credentials: Credentials, method: str, path: str, timestamp_s: int, body: str | None = None
) -> HiddenHeaders:
    """The five headers of one request. Two of their values are secrets: never log them.

    `method` is upper case ("GET"), `path` begins with "/" and has no query, `timestamp_s` is
    now in seconds since the epoch, `body` is the very text that is sent.

    Raises:
        ValueError: a path of another form, which the exchange would refuse without saying why.
    """
    if not path.startswith("/") or "?" in path:
        raise ValueError(f"expected the path of a request without its query, got {path!r}")
    message = f"{timestamp_s}{method}{path}{body or ''}"
    return HiddenHeaders(
        POLY_ADDRESS=credentials.address,
        POLY_API_KEY=credentials.api_key,
        POLY_PASSPHRASE=credentials.passphrase,
        POLY_TIMESTAMP=str(timestamp_s),
        POLY_SIGNATURE=_signature(credentials, message),
    )


def _signature(credentials: Credentials, message: str) -> str:
    digest = hmac.digest(credentials.key, message.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode()
