"""The documentation shows the transitions that the code allows."""

from tests.supervisor.transition_table import PAGE, table, with_table

from polysupervisor import ChildState
from polysupervisor._tree import TRANSITIONS


def test_every_state_is_in_the_table_and_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS) == set(ChildState)
    reached = {ChildState.WAITING}.union(*TRANSITIONS.values())
    assert reached == set(ChildState)
    assert all(TRANSITIONS.values())


def test_page_shows_the_table_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert table() in page
    assert with_table(page) == page, "run python tests/supervisor/transition_table.py"
