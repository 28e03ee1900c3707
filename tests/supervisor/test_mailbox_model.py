"""Random lives of a mailbox, of every policy, against a model that is made of plain lists.

The model is written from what the documentation of ``Overflow``, ``MailboxSpec`` and
``MailboxStats`` says. After each step everything that can be seen is compared.
"""

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from polysupervisor import Inbox, MailboxGap, MailboxSpec, MailboxStats, Overflow
from polysupervisor._mailbox import Mailbox, make_mailbox

WORKERS = 2
BATCH_MAX = 4


def key_of(message: int) -> int:
    return message % 3


@attrs.define
class Item:
    message: int | MailboxGap
    sent_at: float
    returned: int = 0


@attrs.define
class ModelWorker:
    """A task that receives: what it waits for, and what it has in flight."""

    wants: int | None = None
    turn: int = 0
    held: list[Item] = attrs.field(factory=list[Item])
    got: list[object] = attrs.field(factory=list[object])


class Model:
    """What a mailbox and the inbox lent from it shall do."""

    def __init__(self, spec: MailboxSpec) -> None:
        self.spec = spec
        self.now = 0.0
        self.queue: list[Item] = []
        self.blocked: list[int] = []
        self.results: dict[int, str] = {}
        self.workers = [ModelWorker() for _ in range(WORKERS)]
        self.waiting: list[ModelWorker] = []
        self.open = True
        self.ending = False
        self.sent = self.peak = self.coalesced = self.dropped = 0
        self.lost = self.redelivered = 0
        self.overflows = self.alarms = 0
        self.is_overflowing = False
        self.is_armed = True
        self.waits_from: float | None = None
        self.touched = 0.0
        self.turns = 0

    # Sending. A message is sent once, so that it says which send it was.

    def put(self, message: int) -> str:
        if not self.open:
            return "broken"
        item = Item(message, self.now)
        same = [each for each in self.queue if self.key(each) == self.key(item)]
        if self.spec.overflow is Overflow.COALESCE and same:
            same[0].message, same[0].returned = message, 0
            self.coalesced += 1
        elif len(self.queue) < self.spec.size or self.make_room():
            self.queue.append(item)
        elif self.spec.overflow in (Overflow.DROP_NEWEST, Overflow.CLEAR_AND_GAP):
            self.dropped += 1
        else:
            return "would block"
        self.sent += 1
        self.note_queue()
        if self.is_armed:
            self.is_armed = False
            self.alarms += 1
        return "sent"

    def make_room(self) -> bool:
        self.overflows += not self.is_overflowing
        self.is_overflowing = True
        if self.spec.overflow is Overflow.DROP_OLDEST:
            while len(self.queue) >= self.spec.size:
                del self.queue[0]
                self.dropped += 1
            return True
        if self.spec.overflow is Overflow.CLEAR_AND_GAP:
            fits = self.spec.size > 1
            missing = 0 if fits else 1
            for item in self.queue:
                if isinstance(item.message, MailboxGap):
                    missing += item.message.dropped
                else:
                    missing += 1
                    self.dropped += 1
            self.queue = [Item(MailboxGap(missing), self.queue[0].sent_at)]
            return fits
        return False

    def send(self, message: int) -> None:
        full = len(self.queue) >= self.spec.size
        if self.open and full and self.spec.overflow is Overflow.BLOCK:
            self.blocked.append(message)
        else:
            self.results[message] = self.put(message)

    def cancel_send(self, number: int) -> int | None:
        if not self.blocked:
            return None
        message = self.blocked.pop(number % len(self.blocked))
        self.results[message] = "cancelled"
        return message

    def admit(self) -> None:
        while self.blocked and len(self.queue) < self.spec.size:
            message = self.blocked.pop(0)
            self.results[message] = self.put(message)

    # Receiving.

    def receive(self, worker: ModelWorker, count: int) -> None:
        worker.held = []
        worker.wants = count
        self.waiting.append(worker)
        if not self.queue and self.ending:
            self.dismiss(worker, "end")

    def dismiss(self, worker: ModelWorker, why: str) -> None:
        worker.wants = None
        worker.got.append(why)
        self.waiting.remove(worker)

    def hand_out(self) -> None:
        """Let those who wait have what there is, first come first served."""
        while self.waiting and self.queue:
            worker = self.waiting.pop(0)
            assert worker.wants is not None
            worker.held, self.queue = self.queue[: worker.wants], self.queue[worker.wants :]
            worker.got.append([item.message for item in worker.held])
            worker.wants = None
            self.turns += 1
            worker.turn = self.turns
            self.is_overflowing = False
            self.touch()
            self.waits_from = self.now if self.queue else None
            self.admit()

    def end(self) -> None:
        self.ending = True
        for worker in list(self.waiting):
            self.dismiss(worker, "end")

    def take_back(self, failed: bool) -> int:
        for worker in list(self.waiting):
            self.dismiss(worker, "closed")
        self.ending = False
        workers = sorted(self.workers, key=lambda worker: worker.turn)
        held = [item for worker in workers for item in worker.held if failed]
        for worker in self.workers:
            worker.held = []
        if self.spec.overflow is Overflow.COALESCE and self.spec.redeliver:
            newest = {self.key(item): item for item in held}
            for item in self.queue:
                newest.pop(self.key(item), None)
            self.coalesced += len(held) - len(newest)
            held = list(newest.values())
        back = [item for item in held if item.returned < self.spec.redeliver]
        for item in back:
            item.returned += 1
            self.waits_from = min(self.waits_from or self.now, item.sent_at)
        self.queue = back + self.queue
        self.redelivered += len(back)
        self.lost += len(held) - len(back)
        self.note_queue()
        return len(held) - len(back)

    # The rest.

    def drop_all(self) -> None:
        self.dropped += sum(isinstance(item.message, int) for item in self.queue)
        self.queue = []
        self.waits_from = None
        self.is_overflowing = False
        self.admit()

    def close(self) -> None:
        self.open = False
        for message in self.blocked:
            self.results[message] = "broken"
        self.blocked = []

    def touch(self) -> None:
        self.touched = self.now

    def note_queue(self) -> None:
        self.peak = max(self.peak, len(self.queue))
        if self.waits_from is None and self.queue:
            self.waits_from = self.now

    def key(self, item: Item) -> object:
        return key_of(item.message) if isinstance(item.message, int) else None

    def stats(self) -> MailboxStats:
        return MailboxStats(
            depth=len(self.queue),
            peak=self.peak,
            blocked=len(self.blocked),
            sent=self.sent,
            coalesced=self.coalesced,
            dropped=self.dropped,
            oldest_age=self.now - self.queue[0].sent_at if self.queue else 0.0,
            lost_in_flight=self.lost,
            redelivered=self.redelivered,
        )

    def waiting_since(self) -> float | None:
        if not self.queue:
            return None
        assert self.waits_from is not None
        return max(self.waits_from, self.touched)


class Worker:
    """A real task that receives when it is told to."""

    def __init__(self) -> None:
        self.send_order, self.orders = trio.open_memory_channel[tuple[Inbox[int], int]](1)
        self.got: list[object] = []
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        async for inbox, count in self.orders:
            self.scope = trio.CancelScope()
            with self.scope:
                try:
                    self.got.append(await inbox.receive_batch(count))
                except trio.EndOfChannel:
                    self.got.append("end")
                except trio.ClosedResourceError:
                    self.got.append("closed")
            if self.scope.cancelled_caught:
                self.got.append("cancelled")


class Real:
    """The mailbox itself, with the same verbs."""

    def __init__(self, spec: MailboxSpec, nursery: trio.Nursery) -> None:
        self.box: Mailbox[int] = make_mailbox(spec)
        self.box.on_overflow = self.on_overflow
        self.box.on_waiting = self.on_waiting
        self.overflows = self.alarms = 0
        self.inbox = Inbox(self.box, lambda: None)
        self.results: dict[int, str] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.nursery = nursery
        self.workers = [Worker() for _ in range(WORKERS)]
        for worker in self.workers:
            nursery.start_soon(worker.run)

    def on_overflow(self) -> None:
        self.overflows += 1

    def on_waiting(self) -> None:
        self.alarms += 1

    def put(self, message: int) -> str:
        try:
            self.box.put(message)
        except trio.WouldBlock:
            return "would block"
        except trio.BrokenResourceError:
            return "broken"
        return "sent"

    def send(self, message: int) -> None:
        self.scopes[message] = trio.CancelScope()
        self.nursery.start_soon(self._send, message, self.scopes[message])

    async def _send(self, message: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self.box.send(message)
            except trio.WouldBlock:
                self.results[message] = "would block"
            except trio.BrokenResourceError:
                self.results[message] = "broken"
            else:
                self.results[message] = "sent"
        if scope.cancelled_caught:
            self.results[message] = "cancelled"

    def take_back(self, failed: bool) -> int:
        lost = self.inbox.take_back(failed=failed)
        self.inbox = Inbox(self.box, lambda: None)
        return lost


Step = tuple[str] | tuple[str, int] | tuple[str, int, int]
PUT = st.tuples(st.just("put"))
RECEIVE = st.tuples(st.just("receive"), st.integers(0, WORKERS - 1), st.integers(1, BATCH_MAX))
TAKE_BACK = st.tuples(st.just("take back"), st.sampled_from([True, True, False]))
STEP = st.one_of(
    *[PUT] * 5,
    *[RECEIVE] * 4,
    *[TAKE_BACK] * 2,
    *[st.tuples(st.just("send"))] * 2,
    *[st.tuples(st.just("open"))] * 2,
    st.tuples(st.just("cancel send"), st.integers(0, 3)),
    st.tuples(st.just("cancel receive"), st.integers(0, WORKERS - 1)),
    st.tuples(st.just("end")),
    st.tuples(st.just("drop all")),
    st.tuples(st.just("close")),
    st.tuples(st.just("rearm")),
    st.tuples(st.just("touch")),
    st.tuples(st.just("pass"), st.integers(1, 7)),
)
# Lists of a length drawn first, as Hypothesis keeps others so short that little happens.
STEPS = st.integers(0, 50).flatmap(lambda n: st.lists(STEP, min_size=n, max_size=n))


async def live(spec: MailboxSpec, steps: list[Step], clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        model, real = Model(spec), Real(spec, nursery)
        model.now = trio.current_time()
        for number, step in enumerate(steps):
            match step:
                case ("put",):
                    assert real.put(number) == model.put(number)
                case ("send",):
                    real.send(number)
                    model.send(number)
                case ("cancel send", which):
                    message = model.cancel_send(which)
                    if message is not None:
                        real.scopes[message].cancel()
                case ("receive", which, count):
                    if model.workers[which].wants is None:
                        model.receive(model.workers[which], count)
                        real.workers[which].send_order.send_nowait((real.inbox, count))
                case ("cancel receive", which):
                    if model.workers[which].wants is not None:
                        model.dismiss(model.workers[which], "cancelled")
                        real.workers[which].scope.cancel()
                case ("end",):
                    model.end()
                    real.inbox.end()
                case ("take back", failed):
                    assert real.take_back(bool(failed)) == model.take_back(bool(failed))
                case ("drop all",):
                    model.drop_all()
                    real.box.drop_all()
                case ("close",):
                    model.close()
                    real.box.close()
                case ("open",):
                    model.open = real.box.open = True
                case ("rearm",):
                    model.is_armed = True
                    real.box.rearm()
                case ("touch",):
                    model.touch()
                    real.box.touch()
                case ("pass", seconds):
                    clock.jump(seconds)
                    model.now += seconds
                case _:
                    raise AssertionError(step)
            model.hand_out()
            await wait_all_tasks_blocked()
            assert real.box.stats() == model.stats()
            assert real.box.waiting_since() == model.waiting_since()
            assert (real.overflows, real.alarms) == (model.overflows, model.alarms)
            assert real.results == model.results
            assert [w.got for w in real.workers] == [w.got for w in model.workers]
            most = spec.size + (BATCH_MAX * WORKERS if spec.redeliver else 0)
            assert real.box.stats().depth <= most  # its size and what was in flight
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("overflow", Overflow)
@given(size=st.integers(1, 4), redeliver=st.integers(0, 2), steps=STEPS)
def test_mailbox_lives_as_its_documentation_says(
    overflow: Overflow, size: int, redeliver: int, steps: list[Step]
) -> None:
    key = key_of if overflow is Overflow.COALESCE else None
    spec = MailboxSpec(size=size, overflow=overflow, key=key, redeliver=redeliver, stall_after=1)
    clock = MockClock()
    trio.run(live, spec, steps, clock, clock=clock)
