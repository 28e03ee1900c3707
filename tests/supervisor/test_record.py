import pytest

from polysupervisor import ChildSpec, Context, Strategy
from polysupervisor._life import Life
from polysupervisor._record import Child, Reply, group_of


async def actor(ctx: Context[None]) -> None:
    ctx.ready()


async def test_answer_is_not_taken_back_by_a_later_refusal() -> None:
    reply = Reply[int]()
    reply.set(3)
    reply.fail(ValueError())
    assert await reply.wait() == 3


async def test_refusal_is_raised_to_the_caller() -> None:
    reply = Reply[int]()
    reply.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await reply.wait()


@pytest.mark.parametrize(
    ("strategy", "group"),
    [
        (Strategy.ONE_FOR_ONE, ""),
        (Strategy.ONE_FOR_ALL, "abc"),
        (Strategy.REST_FOR_ONE, "bc"),
    ],
)
def test_group_is_who_stops_and_starts_together(strategy: Strategy, group: str) -> None:
    children = [Child(ChildSpec(each, lambda: actor), Life(f"root/{each}"), None) for each in "abc"]
    members = group_of(strategy, children, children[1])
    assert "".join(member.spec.id for member in members) == group
