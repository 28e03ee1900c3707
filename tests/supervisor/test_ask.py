import pytest

from polysupervisor import Reply
from polysupervisor._ask import answer_to


async def test_first_answer_wins() -> None:
    reply: Reply[int] = Reply()
    reply.send(1)
    reply.send(2)
    reply.fail(LookupError())
    assert await answer_to(reply) == 1


async def test_first_refusal_wins() -> None:
    reply: Reply[int] = Reply()
    reply.fail(LookupError())
    reply.fail(ZeroDivisionError())
    reply.send(1)
    with pytest.raises(LookupError):
        await answer_to(reply)


async def test_none_is_an_answer() -> None:
    reply: Reply[None] = Reply()
    reply.send(None)
    assert await answer_to(reply) is None  # type: ignore[func-returns-value]
