"""The tables of queues on the page about back-pressure: bounds from the code, words from here."""

from pathlib import Path

from tests.documents.markdown import table, with_block
from tests.documents.messages import full, mailboxes

from polyactors import observer, plain_websocket, rest, stream, token_book, told, tree, websocket
from polyactors.config import Settings
from polyactors.terminal import screen
from polyactors.venue import session

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "back-pressure.md"
SENDERS = {
    "parser": "the connection reads its socket no further",
    "book shard": "the parser waits; the answer of `snapshots` waits 5 s and is then left out; "
    "that of `audit` does not wait and is left out (`audits_lost`)",
    "connection": "one more key is refused; a resync that was refused is asked for again at "
    "its next deadline",
    "heartbeat": "a PONG of a feed is left out, since one that waits says the same; all else waits",
    "snapshots": "one more key is refused, and asked for again after 30 s",
    "audit": "one more key is refused: the ordinary round comes to it",
    "account": "the parser of the user channel waits",
}
"""By actor: what a full mailbox means for who sends to it."""


def page() -> str:
    """The text of the page with the tables of today."""
    text = PAGE.read_text(encoding="utf-8")
    text = with_block(text, "mailboxes", _mailboxes())
    return with_block(text, "queues", _queues())


def _mailboxes() -> str:
    boxes = mailboxes()
    assert set(boxes) == set(SENDERS), "an actor has a mailbox that the page does not know"
    rows = ((name, full(boxes[name]), SENDERS[name]) for name in SENDERS)
    return table(("mailbox of", "holds", "when it is full"), rows)


def _queues() -> str:
    frame_bytes = Settings().frame_bytes_max
    rows = (
        (
            "one read of the socket",
            f"{websocket.RECEIVE_BYTES:,} bytes, handed on as at most "
            f"{websocket.FRAMES_PER_BATCH_MAX:,} frames",
            "the rest stays in the socket, or comes with the next batch",
        ),
        (
            "a frame in the making",
            f"`frame_bytes_max`: {frame_bytes:,} bytes",
            "the session ends (1009)",
        ),
        (
            "frames in trio-websocket, only where its version is unknown to us",
            f"{plain_websocket.FRAMES_BUFFERED_MAX:,}",
            "the socket is not read",
        ),
        (
            "changes of a token that waits for a book of REST",
            f"{token_book.BUFFERED_DELTAS_MAX:,}",
            "the oldest go; a book of REST from before them is refused",
        ),
        (
            "what one of several redundant connections has told of a token",
            f"{told.KEPT_MAX:,} trades and the like, {told.HASHES_KEPT_MAX:,} hashes",
            "the oldest is forgotten",
        ),
        (
            "a subscription to the events, the events file's too",
            f"{stream.QUEUE_EVENTS_MAX:,} events, or your `limit`",
            "updates of a token are merged; then the oldest go, and a `gap` (overflow) says so",
        ),
        (
            "the terminal's subscription",
            f"{screen.SUBSCRIPTION_EVENTS_MAX:,} events",
            "likewise",
        ),
        (
            "the lookout's subscription",
            f"{observer.LOOKOUT_EVENTS_MAX:,} events",
            "likewise",
        ),
        (
            "the supervisors' events for the observer",
            f"{tree.RUNTIME_EVENTS_MAX:,}",
            "the oldest go, and the log says how many",
        ),
        (
            "requests to REST",
            f"{rest.CONNECTIONS_MAX} connections; {rest.BOOKS_REQUESTS_MAX} requests for books in "
            f"{rest.LIMIT_WINDOW_SECONDS:g} s",
            "the actor that asks waits for its turn; nobody waits for it",
        ),
        (
            "an answer of REST",
            f"{rest.ANSWER_BYTES_MAX:,} bytes",
            "the request has failed",
        ),
        (
            "the embedded exchange: frames for one client",
            f"{session.OUTBOX_FRAMES_MAX:,}, or {session.OUTBOX_CHARACTERS_MAX:,} characters",
            "the client is dropped, as the real one does",
        ),
    )
    return table(("queue", "holds at most", "when it is full"), rows)
