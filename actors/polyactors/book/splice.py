"""Joining a REST book into the stream of one token's changes, exactly.

A REST book is a point of the stream, not its end: changes that were under way are in it
already, changes that arrive later are not. It carries the hash H and the timestamp T of the
engine step that it follows, and every change carries the same two, so the point can be found:

1. A change from before T is in the book: drop it.
2. A change of T with the hash H belongs to the step itself: drop it, and all held. The first
   change after it with another hash is joined: it and all that follow apply.
3. Another change of T may lie before or after the step, as several steps share a millisecond:
   hold it until rule 2 or rule 4 decides.
4. A change from after T: the step lies before everything received. Release the held, in
   order, then this one; joined.

Sizes are absolute. So a change applied too many is put right by the changes that follow it,
once the stream has passed the step; a change dropped too many is never put right. Where the
rules leave a doubt, the answer is to apply, or to refuse the book.
"""

from typing import Generic, Protocol, TypeVar


class Hashed(Protocol):
    """A change that states the book hash after its engine step; "" where the wire gave none."""

    @property
    def hash(self) -> str:
        """The book hash of the token after the whole engine step."""
        ...


ChangeT = TypeVar("ChangeT", bound=Hashed)


class RestSplice(Generic[ChangeT]):
    """The filter between a stream of changes and a book that was fetched over REST.

    `hash` and `timestamp_ms` are the REST book's. At most `limit` changes are held; one more
    and they are released as by rule 4, which is exact again once the stream has passed H.
    `passed` says that the stream has been at H already: the next other change is joined.
    """

    __slots__ = ("_held", "_limit", "_passed", "hash", "joined", "timestamp_ms")

    def __init__(
        self,
        hash: str,  # noqa: A002 - the wire's own word, as in the messages
        timestamp_ms: int,
        limit: int,
        *,
        passed: bool = False,
    ) -> None:
        self.hash = hash
        self.timestamp_ms = timestamp_ms
        self.joined = False
        """Nothing is filtered or held any more: `accept` hands everything back."""
        self._limit = limit
        self._held: list[tuple[int, ChangeT]] = []
        self._passed = passed

    @property
    def held(self) -> int:
        """Changes that wait for the stream to say on which side of the book they lie."""
        return len(self._held)

    def accept(self, timestamp_ms: int, change: ChangeT) -> list[tuple[int, ChangeT]]:
        """Take the stream's next change; return what to apply to the book now, in order."""
        entry = (timestamp_ms, change)
        if self.joined:
            return [entry]
        if change.hash and change.hash == self.hash:
            self._passed = True
            self._held.clear()
            return []
        if self._passed:
            self.joined = True
            return [entry]
        if timestamp_ms < self.timestamp_ms:
            return []
        self._held.append(entry)
        if timestamp_ms > self.timestamp_ms or len(self._held) > self._limit:
            return self.release()
        return []

    def release(self) -> list[tuple[int, ChangeT]]:
        """Decide that H will not come (the stream was quiet): return the held; joined."""
        self.joined = True
        released = self._held
        self._held = []
        return released


class DeltaBuffer(Generic[ChangeT]):
    """The latest changes of one token's stream, kept while a REST book is fetched.

    Holds at most `limit` changes; the oldest go first. What went is remembered by its newest
    timestamp and hash, so that a book from before it is refused and not joined over a gap.
    """

    __slots__ = ("_entries", "_limit", "_passed_hash", "_passed_ms")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[tuple[int, ChangeT]] = []
        self._passed_ms = -1
        self._passed_hash = ""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, timestamp_ms: int, change: ChangeT) -> None:
        """Append the stream's next change; over the limit, the oldest is dropped."""
        self._entries.append((timestamp_ms, change))
        if len(self._entries) > self._limit:
            oldest_ms, oldest = self._entries.pop(0)
            self.pass_by(oldest_ms, oldest.hash)

    def pass_by(self, timestamp_ms: int, hash: str) -> None:  # noqa: A002
        """Note that the stream had this change, or whole book, and the buffer has it not."""
        if timestamp_ms >= self._passed_ms:
            self._passed_ms = timestamp_ms
            self._passed_hash = hash

    def clear(self) -> None:
        """Drop everything; what was dropped still counts as passed by."""
        for timestamp_ms, change in self._entries:
            self.pass_by(timestamp_ms, change.hash)
        self._entries.clear()

    def splice(
        self,
        hash: str,  # noqa: A002
        timestamp_ms: int,
    ) -> tuple[RestSplice[ChangeT], list[tuple[int, ChangeT]]] | None:
        """Join a REST book: the filter for the stream from now on, and what to apply at once.

        None refuses the book: changes that it lacks may be among those that passed by, since
        it is older than the newest of them, or of the same millisecond, and its step was
        neither the newest of them nor is in the buffer. The buffer is left as it is.
        """
        buffered = bool(hash) and any(change.hash == hash for _, change in self._entries)
        passed = bool(hash) and hash == self._passed_hash and not buffered
        if timestamp_ms <= self._passed_ms and not (buffered or passed):
            return None
        splice = RestSplice[ChangeT](hash, timestamp_ms, self._limit, passed=passed)
        apply: list[tuple[int, ChangeT]] = []
        for entry in self._entries:
            apply += splice.accept(*entry)
        return splice, apply
