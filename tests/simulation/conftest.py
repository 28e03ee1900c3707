"""Fixtures of the simulations. POLYACTORS_SEEDS says which seeds are played by the tests that
play several: a number of them, or a range like 417-417."""

import os

import pytest
from tests.simulation import world

SEEDS_DEFAULT = "10"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        first, dash, last = os.environ.get("POLYACTORS_SEEDS", SEEDS_DEFAULT).partition("-")
        seeds = range(int(first), int(last) + 1) if dash else range(1, int(first) + 1)
        metafunc.parametrize("seed", seeds)


@pytest.fixture
def simulate() -> world.Simulate:
    return world.simulate
