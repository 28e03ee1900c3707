"""The markets that the emulator lists: ids, names and numbers, all derived from the seed."""

from random import Random

from attrs import frozen

from polyactors.book.numbers import PRICE_ONE

OUTCOMES = ("Yes", "No")

_QUESTIONS = (
    "Will Bitcoin close above ${number},000?",
    "Will team {number} win the cup?",
    "Will it rain more than {number} mm in New York City?",
    "Will the Fed change rates by {number} basis points?",
    "Will candidate {number} win the nomination?",
    "Will the film make ${number} million on its first weekend?",
)


@frozen
class Listing:
    """One market as discovery knows it."""

    index: int
    """Position in the order of listing, from 0; Gamma's numeric id is 500000 more."""
    condition_id: str
    """0x and 64 hex digits: the wire's `market`."""
    tokens: tuple[str, str]
    """Token ids, YES then NO: decimal digits, at most 78."""
    question: str
    slug: str
    neg_risk: bool
    anchor: int
    """Price that YES keeps returning to, in units."""
    has_fine_tick: bool
    """Whether its tick size is 0.001 at every price."""
    is_traded: bool
    """Whether it has traded before anybody looked."""
    volume: float
    """Volume of the day before the emulator started, in USDC."""

    @property
    def id(self) -> str:
        """Gamma's id of the market."""
        return str(500_000 + self.index)

    @property
    def event_index(self) -> int:
        """The event that it belongs to: two markets each."""
        return self.index // 2

    @property
    def event_id(self) -> str:
        """Gamma's id of the event."""
        return str(90_000 + self.event_index)

    @property
    def event_slug(self) -> str:
        """The event's slug."""
        return f"venue-event-{self.event_index + 1}"

    @property
    def event_title(self) -> str:
        """The event's title."""
        return f"Event {self.event_index + 1} of the embedded exchange"


def make_listing(seed: int, index: int) -> Listing:
    """The market at this place of this seed's listing.

    Markets rotate through the cases: the second keeps around 0.957, where the tick size
    changes, every third has the fine tick, every fourth has never traded.
    """
    rng = Random(f"{seed}:listing:{index}")
    number = rng.randint(2, 99)
    question = _QUESTIONS[index % len(_QUESTIONS)].format(number=number)
    words = "".join(c if c.isalnum() else " " for c in question.lower()).split()
    cents = rng.randint(15, 85)
    return Listing(
        index=index,
        condition_id=f"0x{rng.getrandbits(256):064x}",
        tokens=(str(rng.getrandbits(256)), str(rng.getrandbits(256))),
        question=question,
        slug=f"{'-'.join(words)}-{index + 1}",
        neg_risk=index // 2 % 2 == 1,
        anchor=PRICE_ONE * 957 // 1000 if index % 8 == 1 else PRICE_ONE * cents // 100,
        has_fine_tick=index % 3 == 2,
        is_traded=index % 4 != 3,
        volume=round(1_000_000 / (index + 1) * rng.uniform(0.95, 1.05), 2),
    )
