"""The reference of everything that can be set, from the options of the command line."""

from pathlib import Path

from tests.documents.markdown import table

from polyactors.cli.arguments import COMMANDS
from polyactors.option import Option
from polyactors.options import ACTORS, TABLES_KEY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "configuration.md"
HEAD = """\
# Configuration

Everything that can be set, from the options of the code (`python -m tests.documents` writes this
page). Each has three names: the option of the command line, the variable of the environment, and
the key of the TOML file that `--config` names. The first beats the second, the second the third,
and that the default. A variable that is empty counts as not set. A list is the option given
several times, a text with commas or spaces in the environment, and a list in the file. No number
can be infinite; what shall have no end is left out.

```toml
markets = ["will-it-rain"]
top = 5
data_deadline_seconds = 20
events = "events.jsonl"
```

In Python the section *settings* is `polyactors.Settings`, with the keys as arguments;
`open_service` takes what is not given from the environment. A value that does not fit raises
`UsageError`, and is one sentence and exit code 2 on the command line. What the settings of trust
mean for you, and what they cost:
[handle stale books](../how-to/handle-stale-books.md#choose-the-deadlines).
"""
UNITS = {
    "seconds": "seconds",
    "percent": "percent",
    "bytes": "bytes",
    "days": "days",
    "rate": "engine steps a second",
}
PATHS = {"credentials", "config", "events", "summary"}


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    shown: dict[tuple[Option, ...], str] = {}
    for command in COMMANDS.values():
        parts.append(f"## {command.name}\n\n{_sentence(command.help)}\n")
        has_file = any(option.name == "config" for option in command.options)
        for title, options in command.groups:
            parts.append(f"### {command.name}: {title}\n")
            if options in shown:
                parts.append(f"As for [{shown[options]}](#{_anchor(shown[options])}).\n")
                continue
            shown[options] = f"{command.name}: {title}"
            head = ("names", "takes", "default", "what it is")
            parts.append(table(head, (_cells(option, has_file) for option in options)))
    return "\n".join(parts)


def _cells(option: Option, has_file: bool) -> tuple[str, str, str, str]:
    names = [option.flag, option.variable]
    if option.kind is bool:
        names[0] += f"`, `--no-{option.flag.removeprefix('--')}"
    if has_file and option.is_in_file:
        names.append(f"{option.key} =")
    elif has_file and option in ACTORS:
        names.append(f"[{TABLES_KEY}.NAME]")
    return (
        "<br>".join(f"`{name}`" for name in names),
        _taken(option),
        _default(option),
        _sentence(option.help),
    )


def _taken(option: Option) -> str:
    if option.is_repeatable:
        return "a list of texts"
    if option.name in PATHS:
        return "a path"
    if option.metavar == "URL":
        return "a URL without user, query and fragment"
    unit = next((words for end, words in UNITS.items() if end in option.name), None)
    if unit is None or option.kind is bool:
        return option.expected
    return option.expected.replace("number", f"number of {unit}", 1)


def _default(option: Option) -> str:
    if option.kind is bool:
        return "on" if option.default else "off"
    if option.default is None:
        return "not set"
    if isinstance(option.default, int):
        return f"{option.default:,}"
    return f"{option.default:g}" if isinstance(option.default, float) else f"`{option.default}`"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _anchor(heading: str) -> str:
    return heading.replace(":", "").replace(" ", "-")
