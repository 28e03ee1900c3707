import base64
import hashlib
import hmac

import pytest

from polyactors.account.credentials import Credentials
from polyactors.account.signing import l2_headers

ADDRESS = "0x" + "aB" * 20


def credentials(secret: str) -> Credentials:
    return Credentials("api-key", secret, "passphrase", ADDRESS)


def test_the_vector_of_the_official_clients() -> None:
    """py-clob-client, tests/signing/test_hmac.py; clob-client and rs-clob-client have the same."""
    headers = l2_headers(
        credentials("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        "test-sign",
        "/orders",
        1000000,
        '{"hash": "0x123"}',
    )
    assert headers == {
        "POLY_ADDRESS": ADDRESS,
        "POLY_API_KEY": "api-key",
        "POLY_PASSPHRASE": "passphrase",
        "POLY_TIMESTAMP": "1000000",
        "POLY_SIGNATURE": "ZwAdJKvoYRlEKDkNMwd5BuwNNtg93kNaR_oU2HrfVvc=",
    }


@pytest.mark.parametrize(
    ("method", "path", "timestamp_s", "body", "message"),
    [
        ("GET", "/data/orders", 1700000000, None, "1700000000GET/data/orders"),
        ("GET", "/data/trades", 1, None, "1GET/data/trades"),
        ("POST", "/order", 2, '{"a":1}', '2POST/order{"a":1}'),
        ("POST", "/order", 2, "", "2POST/order"),
    ],
)
def test_the_formula(
    method: str, path: str, timestamp_s: int, body: str | None, message: str
) -> None:
    key = bytes(range(224, 256))
    secret = base64.urlsafe_b64encode(key).decode()
    assert "_" in secret
    assert "-" in secret
    mac = hmac.new(key, message.encode(), hashlib.sha256)
    expected = base64.urlsafe_b64encode(mac.digest()).decode()
    headers = l2_headers(credentials(secret), method, path, timestamp_s, body)
    assert headers["POLY_SIGNATURE"] == expected
    standard = base64.b64encode(key).decode()
    assert l2_headers(credentials(standard), method, path, timestamp_s, body) == headers


@pytest.mark.parametrize("path", ["data/orders", "/data/orders?id=1", ""])
def test_a_path_that_would_be_signed_wrongly_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="without its query"):
        l2_headers(credentials("AAAA"), "GET", path, 1)
