"""An account is complete after every fault: nothing is missed, nothing is counted twice."""

from random import Random

import pytest
import trio
from tests.simulation.account_world import AccountWorld, follow_account

from polyactors.account.reconcile import OVERLAP_SECONDS, PENDING_BY_ID_MAX
from polyactors.events import AccountStateChanged, OrderChanged, PositionChanged, TradeChanged
from polyactors.protocol.user_events import TradeEvent
from polyactors.user.lists import AccountLists
from polyactors.user.state import AccountReason, AccountState
from polyactors.venue import Settlement
from polyactors.venue.faults import FaultKind

KINDS = (
    FaultKind.RESET,
    FaultKind.STALL,
    FaultKind.REFUSE,
    FaultKind.GARBAGE,
    FaultKind.SLOW,
    FaultKind.LOST_DELTA,
    FaultKind.LOST_GROUP,
    FaultKind.DUPLICATE,
    FaultKind.REORDER,
    FaultKind.REST_ERROR,
    FaultKind.UNKNOWN_FIELDS,
    FaultKind.OVERSIZE,
    FaultKind.CLOCK_SKEW,
)


def test_without_faults_everything_is_seen_live() -> None:
    async def scenario(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        await world.trade(60.0)
        await world.come_to_rest()
        told = [e for e in world.events if isinstance(e, OrderChanged | TradeChanged)]
        assert len(told) > 200
        assert not any(event.reconciled for event in told)
        assert any(isinstance(event, PositionChanged) for event in world.events)
        assert world.downs == []
        assert world.states == [AccountState.LIVE]

    follow_account(1, scenario)


def test_what_was_there_before_is_recovered_before_the_account_is_live() -> None:
    async def scenario(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        states = [e for e in world.events if isinstance(e, AccountStateChanged)]
        assert [e.state for e in states[:2]] == [AccountState.LIVE, AccountState.STALE]
        since, until = (world.events.index(states[at]) for at in (1, -1))
        before = world.events[since:until]
        told = [e for e in before if isinstance(e, OrderChanged | TradeChanged)]
        assert told
        assert all(event.reconciled for event in told)
        await world.come_to_rest()

    async def late(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        world.inject(FaultKind.REFUSE, seconds=20.0)
        world.inject(FaultKind.RESET)
        await world.trade(20.0)
        await scenario(world)

    follow_account(2, late)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_an_account_is_complete_after_each_fault(kind: FaultKind) -> None:
    async def scenario(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        for _ in range(3):
            world.inject(kind, seconds=6.0)
            await world.trade(12.0)
        await world.come_to_rest()

    follow_account(3, scenario)


def test_a_stalled_channel_is_found_by_the_lists_and_replaced() -> None:
    async def scenario(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        world.inject(FaultKind.STALL, seconds=1e6)
        await world.trade(10.0)
        await world.until(lambda: "feed_stalled" in world.downs)
        stale = [e.reason for e in world.events if isinstance(e, AccountStateChanged) and e.reason]
        assert stale[0] is AccountReason.FEED_STALLED
        await world.come_to_rest()

    follow_account(4, scenario)


def test_trades_that_settle_late_and_unseen_are_asked_for_by_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    by_id = AccountLists.trade

    async def watched(lists: AccountLists, trade_id: str) -> list[TradeEvent]:
        found = await by_id(lists, trade_id)
        asked.extend(row.id for row in found)
        return found

    monkeypatch.setattr(AccountLists, "trade", watched)

    async def scenario(world: AccountWorld) -> None:
        await world.until(lambda: world.is_live)
        await world.trade(3.0)
        early = set(world.account.trades)
        assert 0 < len(early) <= PENDING_BY_ID_MAX
        await trio.sleep(OVERLAP_SECONDS + 50.0)
        await world.trade(5.0)
        await trio.sleep(15.0)
        world.inject(FaultKind.REFUSE, seconds=200.0)  # while the early ones are confirmed
        world.inject(FaultKind.RESET)
        await trio.sleep(600.0)
        await world.come_to_rest()
        assert early <= set(asked)

    follow_account(6, scenario, settlement=Settlement((200.0, 250.0), (200.0, 250.0)))


@pytest.mark.parametrize("story", range(1, 13))
def test_an_account_is_complete_after_a_story_of_faults(story: int) -> None:
    rng = Random(f"{story}:story")

    async def scenario(world: AccountWorld) -> None:
        for _ in range(8):
            kind = rng.choice(KINDS)
            world.inject(kind, seconds=rng.uniform(1.0, 8.0))
            await world.trade(rng.uniform(1.0, 12.0))
        await world.come_to_rest()

    follow_account(story, scenario, markets=2, page_rows=rng.choice((3, 10, 100)))


def test_credentials_that_are_refused_end_in_one_sentence_and_no_storm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(world: AccountWorld) -> None:
        world.account.revoke()
        await world.until(lambda: AccountState.REFUSED in world.states)
        connects = world.service.statistics.connects
        await trio.sleep(300.0)
        assert world.service.statistics.connects == connects <= 3
        assert world.states.count(AccountState.REFUSED) == 1

    follow_account(5, scenario)
    assert len([r for r in caplog.records if "refuses the API credentials" in r.getMessage()]) == 1


@pytest.mark.parametrize("number", range(4))
def test_credentials_that_cease_to_be_taken_are_named_until_they_are_refused_for_good(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The channel and REST refuse them together: sessions begin and end, and that says nothing."""

    async def scenario(world: AccountWorld) -> None:
        await world.trade(5.0)
        await world.come_to_rest()
        since = len(world.events)
        world.account.revoke()
        began = trio.current_time()
        await world.until(lambda: AccountState.REFUSED in world.states)
        assert trio.current_time() - began >= 180.0
        told = [e for e in world.events[since:] if isinstance(e, AccountStateChanged)]
        path = [(event.state, event.reason) for event in told]
        refused = (AccountState.STALE, AccountReason.CREDENTIALS_REFUSED)
        assert path[-2:] == [refused, (AccountState.REFUSED, None)]
        # Before that it may have been a session that ended, and one that begins.
        assert len(path) <= 6
        (named,) = [event for event in told if (event.state, event.reason) == refused]
        assert (named.time_ns - told[0].time_ns) / 1e9 < 8.0
        assert world.line.trust.state is AccountState.REFUSED

    follow_account(number, scenario)
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "refuses the API credentials, which it had" in line]) == 1


@pytest.mark.parametrize("seconds", [3.0, 40.0, 150.0])
def test_credentials_that_are_taken_again_in_time_are_made_good(seconds: float) -> None:
    async def scenario(world: AccountWorld) -> None:
        await world.trade(5.0)
        await world.come_to_rest()
        world.account.revoke()
        await trio.sleep(seconds)
        assert world.line.believed().state is not AccountState.LIVE
        world.account.restore()
        await world.trade(5.0)
        await world.come_to_rest()
        assert AccountState.REFUSED not in world.states
        assert not world.line.is_refused_for_now

    follow_account(7, scenario)


def test_trades_that_rest_has_forgotten_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """The exchange has lost its memory: what was not settled stays, and that is told."""

    async def scenario(world: AccountWorld) -> None:
        await world.trade(10.0)
        known = world.line.account.trades
        world.account.cancel_all()
        await trio.sleep(20.0)
        assert known
        assert world.line.unlisted_trades == set()
        world.account.trades.clear()
        await trio.sleep(100.0)
        assert world.line.unlisted_trades == set(known)
        summary = world.service.summary()["account"]
        assert isinstance(summary, dict)
        assert summary["unlisted_trades"] == len(known)
        assert world.line.believed().state is AccountState.LIVE

    follow_account(3, scenario, settlement=Settlement(mined_seconds=(9999.0, 9999.0)))
    said = [r.getMessage() for r in caplog.records if "REST does not know trades" in r.getMessage()]
    assert 1 <= len(said) <= 3, "each of them once"
