"""Options: names, kinds, bounds, and which source wins."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyactors import options
from polyactors.cli.arguments import COMMANDS
from polyactors.config import Settings
from polyactors.discovery import TOP_MAX
from polyactors.errors import UsageError
from polyactors.options import collect, settings_of

RUN = COMMANDS["run"].options
TOP = next(option for option in RUN if option.name == "top")


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "polyactors.toml"
    path.write_text(text)
    return str(path)


def test_every_setting_is_an_option_of_run_with_its_default() -> None:
    by_name = {option.name: option for option in RUN}
    for setting in attrs.fields(Settings):
        option = by_name[setting.name]
        assert option.default == setting.default
        assert option.flag == "--" + setting.name.replace("_", "-")
        assert option.variable == "POLYACTORS_" + setting.name.upper()


def test_no_command_has_two_options_of_one_name_or_key() -> None:
    for command in COMMANDS.values():
        assert len({option.name for option in command.options}) == len(command.options)
        assert len({option.key for option in command.options}) == len(command.options)


def test_the_top_is_bounded_as_discovery_bounds_it() -> None:
    assert TOP.maximum == TOP_MAX


def test_defaults_alone_make_the_default_settings() -> None:
    assert settings_of(collect(RUN, {}, {})) == Settings()


SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "option": st.integers(1, 5000),
        "environment": st.integers(1, 5000),
        "file": st.integers(1, 5000),
    },
)


@given(SOURCES)
def test_the_command_line_comes_before_the_environment_before_the_file(
    tmp_path_factory: pytest.TempPathFactory, sources: dict[str, int]
) -> None:
    given_options: dict[str, object] = {}
    environment: dict[str, str] = {}
    if "option" in sources:
        given_options["top"] = str(sources["option"])
    if "environment" in sources:
        environment["POLYACTORS_TOP"] = str(sources["environment"])
    if "file" in sources:
        folder = tmp_path_factory.mktemp("config")
        given_options["config"] = config(folder, f"top = {sources['file']}")
    expected = next(
        (sources[name] for name in ("option", "environment", "file") if name in sources), None
    )
    assert collect(RUN, given_options, environment)["top"] == expected


def test_a_list_from_one_source_replaces_that_of_another(tmp_path: Path) -> None:
    path = config(tmp_path, 'tokens = ["1"]\nmarkets = ["rain"]')
    environment = {"POLYACTORS_TOKEN": "2, 3 4", "POLYACTORS_CONFIG": path}
    values = collect(RUN, {}, environment)
    assert values["token"] == ["2", "3", "4"]
    assert values["market"] == ["rain"]
    assert collect(RUN, {"token": ["5"]}, environment)["token"] == ["5"]


def test_the_file_holds_every_kind(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        'ws_url = "wss://example.org/ws"\ndata_deadline_seconds = 20\nids_per_frame = 50\n'
        'custom_features = false\nplain = true\nlog_level = "info"\nsummary = "-"',
    )
    values = collect(RUN, {"config": path}, {})
    settings = settings_of(values)
    assert settings.ws_url == "wss://example.org/ws"
    assert settings.data_deadline_seconds == 20.0
    assert isinstance(settings.data_deadline_seconds, float)
    assert settings.ids_per_frame == 50
    assert settings.custom_features is False
    assert (values["plain"], values["log_level"], values["summary"]) == (True, "info", "-")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tokns = []", "unknown key 'tokns'; did you mean 'tokens'?"),
        ("zzz = 1", "unknown key 'zzz'; the keys are the long options"),
        ('config = "other.toml"', "unknown key 'config'"),
        ("[feed]", "unknown key 'feed'"),
        ('tokens = "1"', "tokens in {path} must be a list of texts, not '1'"),
        ("tokens = [1]", "tokens in {path} must be a list of texts, not [1]"),
        ("top = 2.5", "top in {path} must be a whole number from 1 to 5000, not 2.5"),
        ("top = true", "not True"),
        ("seconds = 0", "seconds in {path} must be a number greater than 0, not 0"),
        ("seconds = nan", "not nan"),
        (
            "seconds = inf",
            "seconds in {path} must be a finite number greater than 0, not inf; leave",
        ),
        ("seconds = -inf", "not -inf"),
        (f"seconds = 1{'0' * 400}", "not inf; leave it out to go on until you stop it"),
        (f"top = 1{'0' * 400}", "top in {path} must be a whole number from 1 to 5000"),
        ('ws_url = "wss://example.org/ws?x=1"', "ws_url in {path} must not have a query"),
        ('plain = "yes"', "plain in {path} must be true or false, not 'yes'"),
        ("ws_url = 1", "ws_url in {path} must be a text, not 1"),
        ('events = ""', "events in {path} must not be empty"),
        ("top = [", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_key(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = config(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        collect(RUN, {"config": path}, {})
    assert sentence.format(path=path) in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize("text", ["1", "true", "Yes", "0", "FALSE", "no"])
def test_truth_in_the_environment(text: str) -> None:
    values = collect(options.DEMO_FAULTS, {}, {"POLYACTORS_FAULTS": text})
    assert values["faults"] is (text.lower() in ("1", "true", "yes"))


def test_an_empty_variable_counts_as_not_set() -> None:
    assert collect(RUN, {}, {"POLYACTORS_TOP": ""})["top"] is None


def test_a_url_in_the_environment_is_looked_at_too() -> None:
    with pytest.raises(UsageError, match="POLYACTORS_CLOB_URL must not name a user") as caught:
        collect(RUN, {}, {"POLYACTORS_CLOB_URL": "https://me:secret@example.org"})
    assert "secret" not in str(caught.value)


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(UsageError, match="POLYACTORS_FAULTS must be true or false, not 'maybe'"):
        collect(options.DEMO_FAULTS, {}, {"POLYACTORS_FAULTS": "maybe"})
