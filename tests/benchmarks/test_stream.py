"""The pure parts of the benchmark of streams: what the exchange says, ratios, tables, latencies."""

import json
from collections.abc import Sequence
from random import Random
from xml.etree import ElementTree

import cattrs
import pytest
from tests.benchmarks.stream import wire
from tests.benchmarks.stream.chart import chart
from tests.benchmarks.stream.clients.ours import handed_us
from tests.benchmarks.stream.figures import Figures, Row, Spread, ratios
from tests.benchmarks.stream.frames import Splitter, client_frame, take_client_frame, text_frame
from tests.benchmarks.stream.recording import Recording, Shape, load, make, save
from tests.benchmarks.stream.scenarios import scenarios, warm_latencies
from tests.benchmarks.stream.state import Books
from tests.benchmarks.stream.table import cell, number, scenario_table
from tests.benchmarks.stream.targets import TARGETS, Target

from polyactors.book.integrity import book_hash
from polyactors.book.numbers import parse_units

SATURATED = next(one for one in scenarios(is_quick=False) if one.name == "saturated")
COST = SATURATED.measures[0].name


@pytest.fixture(scope="module")
def recording() -> Recording:
    return make(Shape(tokens=4, messages=200, rate=1000.0))


def hash_of(book: dict[str, object]) -> str:
    """By the service's own formula."""

    def units(levels: object) -> list[tuple[int, int]]:
        sizes = cattrs.structure(levels, list[dict[str, str]])
        return [(parse_units(one["price"]), parse_units(one["size"])) for one in sizes]

    return book_hash(
        market=str(book["market"]),
        token=str(book["asset_id"]),
        timestamp_ms=int(str(book["timestamp"])),
        bids=units(book["bids"]),
        asks=units(book["asks"]),
        min_order_size=str(book["min_order_size"]),
        tick_size=str(book["tick_size"]),
        neg_risk=bool(book["neg_risk"]),
        last_trade_price=str(book["last_trade_price"]),
    )


@pytest.mark.parametrize("sent", [0, 1, 57, 200])
def test_books_of_rest_have_the_hash_of_the_service(recording: Recording, sent: int) -> None:
    books = Books(recording)
    for place in range(4):
        book = json.loads(books.rest_book(place, sent))
        assert book["hash"] == hash_of(book)


def test_every_stated_hash_is_that_of_the_book_after_the_message(recording: Recording) -> None:
    books = Books(recording)
    for message in range(len(recording)):
        change = json.loads(bytes(recording.payload(message)))
        for entry in change["price_changes"]:
            place = books.place(entry["asset_id"])
            assert place is not None
            book = json.loads(books.rest_book(place, message + 1))
            assert book["hash"] == entry["hash"] == hash_of(book)
            bid, ask, bids, asks = recording.top(message, place)
            assert entry["best_bid"] == book["bids"][-1]["price"] == wire.PRICES[bid]
            assert entry["best_ask"] == book["asks"][-1]["price"] == wire.PRICES[ask]
            assert (len(book["bids"]), len(book["asks"])) == (bids, asks)


def test_first_book_and_book_of_rest_are_the_same_book(recording: Recording) -> None:
    books = Books(recording)
    for sent in (0, 100):
        first = json.loads(books.first_book(3, sent))
        rest = json.loads(books.rest_book(3, sent))
        assert first.pop("event_type") == "book"
        assert {name: rest[name] for name in first} == first


def test_final_tops_are_those_of_the_books_at_the_end(recording: Recording) -> None:
    books = Books(recording)
    for place, token in enumerate(recording.tokens):
        book = json.loads(books.rest_book(place, len(recording)))
        top = tuple(wire.TICK_OF[book[side][-1]["price"]] for side in ("bids", "asks"))
        assert recording.final_tops()[token] == top


def test_a_stream_is_read_as_it_was_written(
    recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("recordings") / "stream"
    save(recording, path)
    assert load(path) == recording


def test_frames_are_split_wherever_they_are_cut() -> None:
    payloads = [b"x" * size for size in (0, 1, 125, 126, 300, 70_000)]
    data = b"".join(map(text_frame, payloads))
    random = Random(1)
    cuts = sorted(random.randrange(len(data)) for _ in range(50))
    splitter = Splitter()
    found: list[bytes] = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        found += splitter.feed(data[begin:end])
    assert found == payloads


@pytest.mark.parametrize("size", [0, 125, 126, 70_000])
def test_a_frame_of_a_client_is_taken_when_it_is_all_there(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    data = client_frame(payload)
    buffer = bytearray(data[:-1])
    assert take_client_frame(buffer) is None
    buffer += data[-1:] + b"rest"
    assert take_client_frame(buffer) == (1, payload)
    assert buffer == b"rest"


# --- figures ------------------------------------------------------------------------------


def figures(**costs: Sequence[float]) -> Figures:
    return Figures(
        tuple(
            Row("", client, number, {COST: value} if value else {}, () if value else ("wrong",))
            for client, values in costs.items()
            for number, value in enumerate(values)
        )
    )


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    # The third round was slow for both, which hurts a ratio of medians and not this one.
    found = figures(ours=[1.0, 2.0, 10.0], nautilus=[8.0, 12.0, 90.0]).ratio("", "nautilus", COST)
    assert found == Spread(8.0, 6.0, 9.0)


def test_a_round_that_one_of_them_lacks_has_no_ratio() -> None:
    assert ratios({0: 2.0, 1: 3.0}, {1: 1.0, 2: 5.0}) == Spread(3.0, 3.0, 3.0)
    assert ratios({0: 2.0}, {1: 1.0}) is None


def test_a_run_with_wrong_books_counts_for_nothing_and_is_told() -> None:
    found = figures(ours=[1.0, 1.0], straight=[0.0, 20.0])
    assert found.spread("", "straight", COST) == Spread(20.0, 20.0, 20.0)
    assert found.faults() == ["straight: 1 of 2 runs do not count: wrong"]


def test_the_table_has_a_row_for_each_client() -> None:
    text = scenario_table(SATURATED, figures(ours=[2.0, 4.0], limit=[1.0, 1.0], straight=[0.0]))
    assert text.splitlines() == [
        f"| client | {COST} | to ours |",
        "| --- | --- | --- |",
        "| **polyactors** | 3.00 [2.00-4.00] | 1 |",
        "| limit: receive, typed decode, no books | 1.00 | 0.375 [0.25-0.5] |",
        "| straightforward Trio | - | - |",
    ]


def test_what_was_verified_is_told_of_the_last_run() -> None:
    rows = (Row("", "ours", number, {}, (), {"audits": 1000 + number}) for number in (0, 1))
    assert Figures(tuple(rows)).checks() == ["ours verified, last: 1,001 audits"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text
    assert cell(None) == "-"


def test_targets_name_what_is_measured() -> None:
    known = {one.name: one for one in scenarios(is_quick=False)}
    for target in TARGETS:
        scenario = known[target.scenario]
        assert target.measure in [one.name for one in scenario.measures]
        labels = [variant.label for variant in scenario.variants]
        assert target.variant in labels
        assert target.first in ("", *labels)


def test_a_target_is_met_from_its_bound_on() -> None:
    found = figures(ours=[2.0], limit=[1.0])
    assert Target("saturated", "", COST, 0.5, "limit").line(found)[-2:] == ["0.5", "yes"]
    assert Target("saturated", "", COST, 0.6, "limit").line(found)[-1] == "no"
    assert Target("saturated", "", COST, 2.0).line(found)[-1] == "yes"
    assert Target("saturated", "", COST, 1.9).line(found)[-1] == "no"
    assert Target("saturated", "", COST, 8.0, "nautilus").line(found)[-2:] == ["-", "no"]


def test_the_chart_is_well_formed_and_shows_all_clients() -> None:
    svg = chart({"saturated": figures(ours=[2.0, 4.0], limit=[1.0], nautilus=[80.0])})
    texts = [one.text for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text")]
    assert "polyactors" in texts
    assert "NautilusTrader, uvloop" in texts


def test_figures_survive_being_kept() -> None:
    found = figures(ours=[1.0, 0.0])
    assert cattrs.structure(cattrs.unstructure(found), Figures) == found


def test_what_the_exchange_was_late_is_no_latency() -> None:
    result = {"latencies_us": [0.0, 300.0, 400.0, 500.0, 600.0], "late_us": [0.0, 1, 2, 3, 4]}
    assert warm_latencies(result) == [299.0, 398.0, 497.0, 596.0]


# --- latencies ----------------------------------------------------------------------------

A, B, C = (500, 510, 50, 50), (501, 510, 51, 50), (500, 511, 50, 51)


def test_each_update_belongs_to_its_message_when_there_are_as_many() -> None:
    # Even where all of them were handed over after all messages were due.
    assert handed_us([0, 10, 20], [A, B, A], [(100, A), (110, B), (120, A)]) == [100, 110, 120]


def test_an_update_for_several_messages_is_of_the_last_one_that_led_to_it() -> None:
    assert handed_us([0, 10, 20, 30], [A, B, C, A], [(25, C), (35, A)]) == [25, 25, 25, 35]


def test_an_update_is_not_of_a_message_that_was_not_due_yet() -> None:
    assert handed_us([0, 100], [A, A], [(50, A), (60, A), (150, A)]) == [50, 150]


def test_a_message_without_an_update_was_never_handed_over() -> None:
    assert handed_us([0, 10], [A, B], [(5, A)]) == [5, float("inf")]
