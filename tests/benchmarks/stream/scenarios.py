"""What is measured, in how many sizes, and what figures come of one run."""

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from attrs import evolve, frozen
from tests.benchmarks.stream.recording import Shape

WARM_SHARE = 0.2
"""So much of a paced stream is for warming up, as node must; its latencies do not count."""
SATURATED_RATE = 10_000.0
"""A stream sent at once still says when each message was made."""
MB = 1e6

Result = Mapping[str, Any]
"""What a client has printed."""


@frozen
class Variant:
    """One stream, and what is done with it. Equal variants are run once for all scenarios."""

    label: str
    shape: Shape
    is_paced: bool = False
    resets: int = 0
    pause_seconds: float = 0.0
    """Before the first reset."""
    is_tls: bool = False


@frozen
class Measure:
    """A figure of one run; less is better."""

    name: str
    of: Callable[[Variant, Result], float]
    is_compared: bool = True
    """Whether ours is set against the others'."""


@frozen
class Scenario:
    """A table of the report."""

    name: str
    title: str
    text: str
    variants: tuple[Variant, ...]
    measures: tuple[Measure, ...]
    is_growth: bool = False
    """Whether each variant is set against the first."""


def us_per_message(variant: Variant, result: Result) -> float:
    """From the first message on, or from when the client was warm, if it says."""
    begin_ns = result.get("warm_ns", result["start_ns"])
    messages: int = variant.shape.messages - result.get("warm_messages", 0)
    took_ns: int = result["end_ns"] - begin_ns
    return took_ns / 1000 / messages


def warm_latencies(result: Result) -> list[float]:
    """Microseconds from when a message was due, less what the exchange itself was late.

    In the order of the stream, for which no message may have been lost.
    """
    latencies: list[float] = result["latencies_us"]
    late: list[float] = result["late_us"]
    own = [both - its for both, its in zip(latencies, late, strict=True)]
    return own[int(len(own) * WARM_SHARE) :]


def latency_ms(share: float) -> Callable[[Variant, Result], float]:
    """A percentile of the latencies."""

    def of(_: Variant, result: Result) -> float:
        latencies = sorted(warm_latencies(result))
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] / 1000

    return of


def cpu_ms_per_1000(variant: Variant, result: Result) -> float:
    """Processor time of the whole client."""
    return float(result["cpu_seconds"]) * 1e6 / variant.shape.messages


def growth_ratio(_: Variant, result: Result) -> float:
    """Median latency at the end of the stream to that at its beginning: of a queue that grows."""
    latencies = warm_latencies(result)
    fifth = max(1, len(latencies) // 5)
    return median(latencies[-fifth:]) / median(latencies[:fifth])


def late_ms(_: Variant, result: Result) -> float:
    """By how much the exchange was late: no part of the latency."""
    late: list[float] = sorted(result["late_us"])
    return late[int(len(late) * 0.99)] / 1000


def start_ms(_: Variant, result: Result) -> float:
    """From the beginning of the connection until every book was there."""
    return float(result["all_ns"] - result["connect_ns"]) / 1e6


def memory_mb(_: Variant, result: Result) -> float:
    """Resident with all books: when the last came, or later, if it was more then."""
    return max(float(result["rss_bytes"]), float(result.get("rss_settled_bytes", 0))) / MB


def peak_mb(_: Variant, result: Result) -> float:
    """Resident at most."""
    return float(result["peak_bytes"]) / MB


def reset_ms(_: Variant, result: Result) -> float:
    """From a reset until every book was there again: the median of several."""
    begins: list[int] = result["reset_ns"]
    ends: list[int] = result["again_ns"]
    return median((end - begin) / 1e6 for begin, end in zip(begins, ends, strict=True))


COST = (Measure("µs a message", us_per_message),)
LATENCY = (
    Measure("p50 ms", latency_ms(0.5)),
    Measure("p99 ms", latency_ms(0.99)),
    Measure("CPU ms per 1,000 messages", cpu_ms_per_1000),
    Measure("p50 at the end / at the beginning", growth_ratio, is_compared=False),
    Measure("exchange late p99 ms", late_ms, is_compared=False),
)
MEMORY = (Measure("MB", memory_mb), Measure("MB at most", peak_mb))
START = (Measure("ms", start_ms),)
RESET = (Measure("ms", reset_ms),)


def _books(tokens: int) -> Variant:
    return Variant(f"{tokens:,} tokens", Shape(tokens, 0, 1.0))


def scenarios(*, is_quick: bool) -> tuple[Scenario, ...]:
    """All of them; quick: as small as shows that they work."""

    def sent_at_once(tokens: int, messages: int, label: str = "", *, tls: bool = False) -> Variant:
        messages = 1000 if is_quick else messages
        return Variant(label, Shape(tokens, messages, SATURATED_RATE), is_tls=tls)

    def live(rate: int) -> Variant:
        seconds = 1 if is_quick else 10 if rate < 5000 else 8
        return Variant(f"{rate:,} messages/s", Shape(100, rate * seconds, rate), is_paced=True)

    counts = (200,) if is_quick else (1000, 10_000)
    growing = (10, 100) if is_quick else (10, 100, 1000, 10_000)
    # One in a process: a second one within a minute is met by backoff, as it should be.
    resets, pause_seconds = 1, 0.5 if is_quick else 2.5
    reset_tokens = 100 if is_quick else 500
    return (
        Scenario(
            "saturated",
            "Saturated",
            "A burst, a catch-up, a replay: as fast as the client takes it, "
            "from the socket to the books.",
            (sent_at_once(100, 200_000),),
            COST,
        ),
        Scenario(
            "live",
            "Live",
            "From when the exchange sends a message to when the book has changed and, with "
            "polyactors, a subscriber holds the event.",
            tuple(live(rate) for rate in ((200,) if is_quick else (100, 1000, 5000))),
            LATENCY,
        ),
        Scenario(
            "memory",
            "Memory",
            "Resident memory of the process with all books, 50 levels on each side.",
            tuple(_books(count) for count in counts),
            MEMORY,
        ),
        Scenario(
            "startup",
            "Start-up",
            "From the beginning of the first connection until every book is there.",
            (_books(counts[-1]),),
            START,
        ),
        Scenario(
            "reset",
            "Reset",
            "From a TCP reset of every connection, after a while of peace, until every book is "
            "there again.",
            (evolve(_books(reset_tokens), resets=resets, pause_seconds=pause_seconds),),
            RESET,
        ),
        Scenario(
            "growth",
            "Growth",
            "The cost of a message, saturated, as there are more tokens.",
            tuple(sent_at_once(count, 50_000, f"{count:,} tokens") for count in growing),
            COST,
            is_growth=True,
        ),
        Scenario(
            "tls",
            "TLS",
            "Saturated, over TLS.",
            (sent_at_once(100, 100_000, tls=True),),
            COST,
        ),
    )
