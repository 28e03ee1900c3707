"""Settings from options, environment and file: every mistake is named in one sentence."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from polyactors.config import (
    ENVIRONMENT_PREFIX,
    Settings,
    from_environment,
    make_settings,
    parse_text,
    read_file,
)
from polyactors.errors import UsageError


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        make_settings(values, source="polyactors.toml")
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_defaults_are_polymarkets_and_the_issues() -> None:
    settings = make_settings({})
    assert settings == Settings()
    assert settings.ws_url == "wss://ws-subscriptions-clob.polymarket.com/ws"
    assert settings.clob_url == "https://clob.polymarket.com"
    assert settings.gamma_url == "https://gamma-api.polymarket.com"
    assert (settings.ping_interval_seconds, settings.pong_deadline_seconds) == (10.0, 25.0)
    assert (settings.data_deadline_seconds, settings.first_book_deadline_seconds) == (30.0, 10.0)
    assert (settings.tokens_per_connection, settings.ids_per_frame) == (200, 100)


def test_every_setting_can_be_set_in_a_file_and_in_the_environment(tmp_path: Path) -> None:
    in_file, in_environment, expected = list[str](), dict[str, str](), dict[str, Any]()
    for field in attrs.fields(Settings):
        examples: dict[Any, tuple[str, Any]] = {
            str: ('"http://here"', "http://here"),
            float: ("2.5", 2.5),
            int: ("3", 3),
            bool: ("false", False),
        }
        toml, value = examples[field.type]
        assert value != field.default
        in_file.append(f"{field.name} = {toml}")
        in_environment[f"POLYACTORS_{field.name.upper()}"] = toml.strip('"')
        expected[field.name] = value
    path = tmp_path / "polyactors.toml"
    path.write_text("\n".join(in_file))
    assert make_settings(read_file(str(path))) == Settings(**expected)
    assert from_environment(in_environment) == expected


def test_the_environment_stands_above_the_file() -> None:
    file = {"ping_interval_seconds": 5.0, "ids_per_frame": 50}
    environment = from_environment({"POLYACTORS_PING_INTERVAL_SECONDS": "3", "OTHER": "x"})
    settings = make_settings(file | environment)
    assert (settings.ping_interval_seconds, settings.ids_per_frame) == (3.0, 50)


def test_the_environment_of_the_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYACTORS_WS_URL", "ws://127.0.0.1:9/ws")
    assert from_environment()["ws_url"] == "ws://127.0.0.1:9/ws"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert from_environment({"POLYACTORS_WS_URL": "", "POLYACTORS_AUDIT_SECONDS": ""}) == {}


def test_unknown_keys_are_named() -> None:
    text = refusal({"ping_intervall_seconds": 5.0, "colour": "red"})
    assert "ping_intervall_seconds" in text
    assert "colour" in text
    assert "polyactors.toml" in text


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ping_interval_seconds", "5", "a number"),
        ("ping_interval_seconds", True, "a number"),
        ("ping_interval_seconds", None, "a number"),
        ("ids_per_frame", 5.5, "a whole number"),
        ("ids_per_frame", True, "a whole number"),
        ("ids_per_frame", "5", "a whole number"),
        ("custom_features", 1, "true or false"),
        ("custom_features", "true", "true or false"),
        ("ws_url", 5, "text"),
        ("ws_url", ["wss://a"], "text"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_key(
    key: str, value: object, expected: str
) -> None:
    text = refusal({key: value})
    assert key in text
    assert expected in text


@pytest.mark.parametrize(
    "key",
    [
        field.name
        for field in attrs.fields(Settings)
        if field.type in (int, float) and "minimum" not in field.metadata
    ],
)
def test_numbers_must_be_positive(key: str) -> None:
    for value in (0, -1):
        text = refusal({key: value})
        assert key in text
        assert "greater than 0" in text
    make_settings({key: 1})


def test_rotation_may_be_off() -> None:
    assert make_settings({"rotation_seconds": 0}).rotation_seconds == 0.0
    text = refusal({"rotation_seconds": -1})
    assert "rotation_seconds must be 0 or greater" in text


def test_a_number_that_is_none_is_refused() -> None:
    assert "ping_interval_seconds" in refusal({"ping_interval_seconds": float("nan")})


@pytest.mark.parametrize(
    ("key", "most"), [("tokens_per_connection", 10_000), ("ids_per_frame", 100), ("redundancy", 4)]
)
def test_the_greatest_value_passes_and_one_more_does_not(key: str, most: int) -> None:
    assert getattr(make_settings({key: most}), key) == most
    text = refusal({key: most + 1})
    assert key in text
    assert str(most) in text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("PING_INTERVAL_SECONDS", "soon", "a number"),
        ("IDS_PER_FRAME", "2.5", "a whole number"),
        ("CUSTOM_FEATURES", "maybe", "true or false"),
    ],
)
def test_a_wrong_value_in_the_environment_is_named_by_its_variable(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        from_environment({ENVIRONMENT_PREFIX + name: text})
    assert str(caught.value).startswith(f"POLYACTORS_{name} must be ")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("YES", True), ("0", False), ("False", False), ("no", False)],
)
def test_flags_are_read_from_the_usual_words(text: str, value: bool) -> None:
    assert parse_text("X", text, bool) is value


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(UsageError, match="cannot read") as caught:
            read_file(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"ws_url = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "polyactors.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not valid TOML") as caught:
        read_file(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", [field.name for field in attrs.fields(Settings) if field.type is float]
)
def test_no_file_and_no_environment_can_set_infinity(key: str) -> None:
    text = refusal({key: float("inf")})
    assert key in text
    assert "finite" in text


@pytest.mark.parametrize("key", ["ws_url", "clob_url", "gamma_url"])
@pytest.mark.parametrize("url", ["wss://a/ws?x=1", "wss://a/ws#x", "wss://me:secret@a/ws"])
def test_a_url_that_no_path_can_be_appended_to_is_refused(key: str, url: str) -> None:
    values: dict[str, Any] = {key: url}
    text = refusal(values)
    assert f"{key} must not " in text
    assert "secret" not in text
    with pytest.raises(UsageError, match=f"{key} must not "):
        Settings(**values)


def test_what_is_no_url_at_all_is_said_by_others() -> None:
    assert Settings(ws_url="ws://[").ws_url == "ws://["


def test_infinite_deadlines_are_allowed_to_programs() -> None:
    assert Settings(first_book_deadline_seconds=float("inf")).first_book_deadline_seconds > 1e300


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"redundancy": 9}, "redundancy must be at most 4"),
        ({"redundancy": "2"}, "redundancy must be a whole number, not '2'"),
        ({"redundancy": 2.0}, "redundancy must be a whole number, not 2.0"),
        ({"audit_seconds": "ten"}, "audit_seconds must be a number, not 'ten'"),
        ({"audit_seconds": True}, "audit_seconds must be a number, not True"),
        ({"audit_seconds": 0}, "audit_seconds must be greater than 0"),
        ({"audit_seconds": float("nan")}, "audit_seconds must be greater than 0"),
        ({"hash_budget_percent": 500}, "hash_budget_percent must be at most 100"),
        ({"rotation_seconds": -1}, "rotation_seconds must be 0 or greater"),
        ({"ws_url": 3}, "ws_url must be a text, not 3"),
        ({"custom_features": "no"}, "custom_features must be True or False, not 'no'"),
    ],
)
def test_a_program_is_told_as_clearly_as_a_file(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings(**given)
    assert str(caught.value) == sentence
