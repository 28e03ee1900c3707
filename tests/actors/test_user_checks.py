"""The credentials go over no network in clear text."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.actors.user_server import CREDENTIALS

from polyactors.cli import main
from polyactors.config import Settings
from polyactors.environment import Environment
from polyactors.errors import UsageError
from polyactors.opening import open_service
from polyactors.transport import Network
from polyactors.user.line import UserLine


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"ws_url": "ws://exchange.test/ws"}, "ws_url 'ws://exchange.test/ws' would show .*wss://"),
        ({"ws_url": "WS://exchange.test/ws"}, "wss://"),
        ({"ws_url": "ws://10.0.0.1:9/ws"}, "wss://"),
        ({"ws_url": "ws://127.0.0.1.test/ws"}, "wss://"),
        ({"ws_url": "ws://localhost.test/ws"}, "wss://"),
        ({"clob_url": "http://exchange.test"}, "clob_url 'http://exchange.test' .*https://"),
        ({"clob_url": "http://[2001:db8::1]:80"}, "https://"),
    ],
)
def test_an_endpoint_in_clear_text_is_refused(given: dict[str, Any], why: str) -> None:
    env = Environment(Settings(**given))
    with pytest.raises(UsageError, match=why) as caught:
        UserLine(CREDENTIALS, env)
    assert "would show the API credentials to everybody on the way" in str(caught.value)
    assert "localhost, 127.0.0.1 or [::1]" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ws_url": "wss://exchange.test/ws", "clob_url": "https://exchange.test"},
        {"ws_url": "ws://127.0.0.1:9/ws", "clob_url": "http://127.0.0.1:9"},
        {"ws_url": "ws://localhost:9/ws", "clob_url": "http://venue.localhost:9"},
        {"ws_url": "ws://[::1]:9/ws", "clob_url": "http://127.9.9.9:9"},
        {"gamma_url": "http://exchange.test"},  # is asked without them
    ],
)
def test_what_is_encrypted_or_on_this_machine_is_taken(given: dict[str, Any]) -> None:
    UserLine(CREDENTIALS, Environment(Settings(**given)))


def test_a_network_of_ones_own_may_lead_anywhere() -> None:
    async def nowhere(*_: Any) -> Any:
        raise OSError

    settings = Settings(ws_url="ws://exchange.test/ws", clob_url="http://exchange.test")

    def transport() -> httpx2.AsyncBaseTransport:
        raise AssertionError

    UserLine(CREDENTIALS, Environment(settings, Network(nowhere, transport)))
    for half in (Network(nowhere), Network(http_transport=transport)):
        with pytest.raises(UsageError):
            UserLine(CREDENTIALS, Environment(settings, half))


async def test_a_program_is_told_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="use wss://"):
        async with open_service(
            credentials=CREDENTIALS, settings=Settings(ws_url="ws://exchange.test/ws")
        ):
            pass


@pytest.mark.parametrize("command", ["account", "run --user"])
def test_a_command_ends_with_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    path = tmp_path / "account.toml"
    path.touch(mode=0o600)
    known = CREDENTIALS
    path.write_text(
        f'api_key = "{known.api_key}"\napi_secret = "{known.secret}"\n'
        f'api_passphrase = "{known.passphrase}"\naddress = "{known.address}"\n'
    )
    urls = "--ws-url wss://exchange.test/ws --clob-url http://exchange.test"
    assert main(f"{command} --credentials {path} {urls}".split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "clob_url 'http://exchange.test' would show the API credentials" in said
