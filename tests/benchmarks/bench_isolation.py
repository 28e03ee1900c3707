"""What an actor of a user's costs others: the delay of events for a bystander, beside offenders.

``python tests/benchmarks/bench_isolation.py [--quick]`` prints a Markdown table. Exchange, service
and actors share one process and one event loop, in real time. A delay begins when a quote is due,
whether or not the loop was free to send it then, and ends when the bystander's ``handle`` has the
event. Policies are the defaults, but for this: who failed is restarted after a quarter of a second,
and never given up, so that it offends again and again.
"""

import argparse
import statistics
import time
from decimal import Decimal

import trio

from polyactors import ActorContext, BookUpdated, actor_spec
from polyactors.testing import stage

INTERVAL_SECONDS = 0.01
PRICES = 80
"""Different ones in a row: which quote an event is of."""
FOREVER = {"gives_up_after": 1_000_000, "backoff_seconds_min": 0.25, "backoff_seconds_max": 0.25}


async def nothing(update: BookUpdated) -> None:
    """Well-behaved."""


async def crash(update: BookUpdated) -> None:
    raise ValueError("always")


async def hang(update: BookUpdated) -> None:
    await trio.sleep_forever()


async def loop(update: BookUpdated) -> None:
    while True:
        pass


async def block(update: BookUpdated) -> None:
    time.sleep(60)  # noqa: ASYNC251 - the very mistake


async def sort(update: BookUpdated) -> None:
    sorted(range(1_000_000), key=lambda number: -number)


async def publish(update: BookUpdated, context: ActorContext) -> None:
    while True:
        await context.publish("noise", number=1)


async def send(update: BookUpdated, context: ActorContext) -> None:
    while True:
        await context.send("nothing", update)


async def tasks(update: BookUpdated, context: ActorContext) -> None:
    async def work() -> None:
        while True:
            sum(range(10_000))
            await trio.lowlevel.checkpoint()

    for _ in range(900):
        context.start_soon(work)
    await trio.sleep_forever()


OFFENDERS = (
    ("nobody", nothing),
    ("fails at every message", crash),
    ("waits for ever", hang),
    ("`while True: pass`", loop),
    ("`time.sleep(60)`", block),
    ("sorts a million numbers", sort),
    ("publishes in a loop", publish),
    ("sends to another in a loop", send),
    ("900 tasks that compute in turns", tasks),
)


async def measure(offender: object, seconds: float) -> tuple[list[float], int]:
    """Delays in seconds, and how often the offender was started."""
    due: dict[Decimal, float] = {}
    delays: list[float] = []

    async def bystander(update: BookUpdated) -> None:
        if update.best_bid is not None and update.best_bid in due:
            delays.append(trio.current_time() - due.pop(update.best_bid))

    spec = actor_spec(offender, name="offender", policy=FOREVER)
    others = [bystander] if offender is nothing else [bystander, nothing]
    async with stage(spec, *others) as play:
        begun = trio.current_time()
        for number in range(int(seconds / INTERVAL_SECONDS)):
            price = Decimal(1 + number % PRICES) / 100
            due[price] = begun + number * INTERVAL_SECONDS
            await trio.sleep_until(due[price])
            play.quote(play.yes, price, "0.95")
        while due and trio.current_time() < begun + seconds + 5:  # noqa: ASYNC110 - or never
            await trio.sleep(INTERVAL_SECONDS)
        return delays, play.status("offender").incarnation


def main(quick: bool) -> None:
    """Measure beside each offender, and print the table."""
    seconds = 0.2 if quick else 10.0
    print("| beside an actor that … | p50 | p99 | max | events | starts |")
    print("|---|---|---|---|---|---|")
    for name, offender in OFFENDERS:
        delays, starts = trio.run(measure, offender, seconds)
        delays.sort()
        p99 = delays[int(len(delays) * 0.99)]
        figures = (statistics.median(delays), p99, delays[-1])
        shown = " | ".join(f"{1000 * figure:.1f} ms" for figure in figures)
        print(f"| {name} | {shown} | {len(delays)} | {starts} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short, to see that it runs")
    main(parser.parse_args().quick)
