"""Proof by simulation: what the oracle promises holds for every seed, and can fail."""

from tests.simulation import stories


def test_a_story(seed: int) -> None:
    world = stories.run(seed)
    assert world.oracle.compared > 20
