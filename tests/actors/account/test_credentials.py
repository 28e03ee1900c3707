import copy
import dataclasses
import json
import pickle
import pprint
import stat
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
import msgspec
import pytest

from polyactors.account import credentials as module
from polyactors.account.credentials import (
    REDACTED,
    VARIABLES,
    Credentials,
    from_environment,
    from_file,
)
from polyactors.errors import UsageError

API_KEY = "3e2c94ca-8124-c4c1-c7ea-be1ea21b71fe"
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw=="
PASSPHRASE = "8f14e45fceea167a5a36dedd4bea2543"
ADDRESS = "0xa3D82Ed56F4c68d2328Fb8c29e568Ba2cAF7d7c8"
VALUES = {
    "api_key": API_KEY,
    "api_secret": SECRET,
    "api_passphrase": PASSPHRASE,
    "address": ADDRESS,
}
ENVIRONMENT = {VARIABLES[name]: value for name, value in VALUES.items()}
WRONG = {
    "api_key": "a key\nof two lines",
    "api_secret": "not+base64*or_so",
    "api_passphrase": "pass phrase with spaces",
    "address": "0x1234-not-an-address",
}


def made() -> Credentials:
    return Credentials(API_KEY, SECRET, PASSPHRASE, ADDRESS)


def shows(text: str, values: Mapping[str, str] = VALUES) -> list[str]:
    return [name for name, value in values.items() if value.lower() in text.lower()]


def as_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "credentials.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def toml(values: Mapping[str, str]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


# They come in


def test_they_come_from_the_environment() -> None:
    found = from_environment(ENVIRONMENT | {"HOME": "/root"})
    assert (found.api_key, found.secret) == (API_KEY, SECRET)
    assert (found.passphrase, found.address) == (PASSPHRASE, ADDRESS)
    assert found.key == b"secret-secret-secret-secret-sec"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_they_come_from_a_file(tmp_path: Path, mode: int) -> None:
    found = from_file(as_file(tmp_path, toml(VALUES), mode))
    assert (found.api_key, found.secret) == (API_KEY, SECRET)
    assert (found.passphrase, found.address) == (PASSPHRASE, ADDRESS)


def test_what_the_environment_lacks_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        from_environment({VARIABLES["api_key"]: API_KEY, VARIABLES["address"]: ""})
    assert str(caught.value) == (
        "the user channel needs credentials: set POLYMARKET_API_SECRET,"
        " POLYMARKET_API_PASSPHRASE and POLYMARKET_ADDRESS in the environment,"
        " or name a file with --credentials"
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = as_file(tmp_path, toml(VALUES), mode)
    with pytest.raises(UsageError) as caught:
        from_file(path)
    assert str(caught.value) == f"others can read the credentials in {path}: chmod 600 {path}"
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert from_file(path).api_key == API_KEY


def test_the_file_that_is_read_is_the_one_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that others can read takes its place right before it is opened."""
    path = as_file(tmp_path, toml(VALUES))
    open_file: Callable[..., Any] = Path.open

    def open_another(self: Path, *args: Any) -> Any:
        path.chmod(0o644)
        return open_file(self, *args)

    monkeypatch.setattr(Path, "open", open_another)
    with pytest.raises(UsageError, match="others can read the credentials"):
        from_file(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (toml(VALUES | {"api_kee": SECRET}), "has names other than api_key, "),
        (toml({"api_key": API_KEY}), "api_secret in "),
        (toml({}), "api_key in "),
        (toml(VALUES).replace(f'"{SECRET}"', "5"), "api_secret in "),
        (toml(VALUES | {"address": ""}), "address in "),
        (f"api_secret = {SECRET}", "is not TOML"),
        (f"{SECRET}", "is not TOML"),
        ("x" * (module.FILE_BYTES_MAX + 1), "is too long"),
    ],
)
def test_a_file_of_another_content_is_refused_without_showing_it(
    tmp_path: Path, text: str, why: str
) -> None:
    path = as_file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        from_file(path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert not shows(whole_traceback(caught.value))


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = as_file(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        from_file(path)
    with pytest.raises(UsageError, match=r"cannot read the credentials in .*: No such file"):
        from_file(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"cannot read the credentials in .*directory"):
        from_file(tmp_path)


@pytest.mark.parametrize("name", sorted(VALUES))
def test_a_value_that_cannot_be_meant_is_named_and_not_shown(tmp_path: Path, name: str) -> None:
    values = VALUES | {name: WRONG[name]}
    path = as_file(tmp_path, toml(values))
    makers: list[Callable[[], Credentials]] = [
        lambda: Credentials(*values.values()),
        lambda: from_environment({VARIABLES[key]: value for key, value in values.items()}),
        lambda: from_file(path),
    ]
    for make in makers:
        with pytest.raises(UsageError) as caught:
            make()
        assert f"{name} ({VARIABLES[name]}) must be" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not shows(whole_traceback(caught.value, ours_only=True), values)


@pytest.mark.parametrize("name", ["api_key", "api_passphrase"])
def test_the_length_of_a_value_is_limited(name: str) -> None:
    longest = VALUES | {name: "x" * module.LENGTH_MAX}
    assert len(Credentials(*longest.values()).redact("x" * module.LENGTH_MAX)) < module.LENGTH_MAX
    with pytest.raises(UsageError, match=name):
        Credentials(*(VALUES | {name: "x" * (module.LENGTH_MAX + 1)}).values())


# They do not go out


def whole_traceback(error: BaseException, *, ours_only: bool = False) -> str:
    """What a tool prints that shows variables, with every cause and context."""
    shown = ""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if not ours_only or frame.f_code.co_filename == module.__file__:
                shown += repr(
                    {name: value for name, value in frame.f_locals.items() if name != "text"}
                )
        shown += repr(seen) + str(seen)
        seen = seen.__cause__ or seen.__context__
    return shown


@attrs.frozen
class AttrsHolder:
    credentials: Credentials


@dataclasses.dataclass
class DataHolder:
    credentials: Credentials


def ways_to_show(credentials: Credentials) -> Iterator[str]:
    yield repr(credentials)
    yield str(credentials)
    yield f"{credentials}"
    yield f"{credentials!s:}"
    yield "%s %r" % (credentials, credentials)  # noqa: UP031 - another way that must be safe
    yield pprint.pformat([credentials])
    yield ascii(credentials)
    yield json.dumps({"credentials": credentials}, default=str)
    yield repr(AttrsHolder(credentials))
    yield repr(attrs.asdict(AttrsHolder(credentials)))
    yield repr(attrs.astuple(AttrsHolder(credentials)))
    yield repr(cattrs.unstructure(AttrsHolder(credentials)))
    yield repr(DataHolder(credentials))
    yield repr(dataclasses.asdict(DataHolder(credentials)))
    yield repr(copy.copy(credentials))
    yield repr(copy.deepcopy([credentials]))
    yield repr(ValueError(credentials))
    yield str(KeyError(credentials))


def test_no_way_of_showing_them_shows_them() -> None:
    for shown in ways_to_show(made()):
        assert REDACTED in shown
        assert not shows(shown)


def ways_to_take_apart(credentials: Credentials) -> Iterator[Callable[[], Any]]:
    yield lambda: vars(credentials)
    yield lambda: credentials.__getstate__()
    yield lambda: attrs.asdict(credentials)  # type: ignore[arg-type]
    yield lambda: dataclasses.asdict(credentials)  # type: ignore[call-overload]
    yield lambda: msgspec.json.encode(credentials)
    yield lambda: msgspec.to_builtins(credentials)
    yield lambda: json.dumps(credentials)
    yield lambda: list(credentials)  # type: ignore[call-overload]
    yield lambda: format(credentials, "x")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield lambda protocol=protocol: pickle.dumps(credentials, protocol)  # type: ignore[misc]


def test_no_way_of_taking_them_apart_works() -> None:
    for take_apart in ways_to_take_apart(made()):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - each in its own way
            take_apart()
        assert not shows(str(caught.value) + repr(caught.value))


def test_there_is_nothing_else_to_look_into() -> None:
    credentials = made()
    assert not hasattr(credentials, "__dict__")
    assert not attrs.has(Credentials)
    assert credentials != made()
    assert not shows(repr(credentials.__class__.__dict__))


def test_a_signature_that_fails_shows_none_of_them() -> None:
    from polyactors.account.signing import l2_headers

    with pytest.raises(ValueError, match="path") as caught:
        l2_headers(made(), "GET", "/data/orders?id=1", 1)
    assert not shows(whole_traceback(caught.value))


def test_a_text_is_cleaned_of_each_of_them() -> None:
    text = f"auth {API_KEY.upper()} {SECRET} and {PASSPHRASE} for {ADDRESS.lower()}."
    assert made().redact(text) == f"auth {REDACTED} {REDACTED} and {REDACTED} for {REDACTED}."
    assert made().redact("nothing here") == "nothing here"
