"""The reference page says what the code says, and leaves no public name out."""

from tests.supervisor.reference_page import PAGE, page

import polysupervisor


def test_page_is_that_of_the_code() -> None:
    # Compared without white space: versions of Python break lines of unparsed code differently.
    shown, needed = PAGE.read_text(encoding="utf-8"), page()
    assert shown.split() == needed.split(), "run python tests/supervisor/reference_page.py"


def test_every_public_name_has_an_entry_with_a_text() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in polysupervisor.__all__:
        _, heading, entry = text.partition(f"### `{name}`\n")
        assert heading, name
        assert len(entry.partition("###")[0].split()) > 5, name
