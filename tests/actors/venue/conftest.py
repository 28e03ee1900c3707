"""Clients of a venue over memory streams."""

import pytest
import trio
import trio.testing
from tests.actors.venue.client import (
    Client,
    Connect,
    ConnectUser,
    UserClient,
    open_client,
    open_user_client,
)

from polyactors.venue import Venue


@pytest.fixture
def connect(nursery: trio.Nursery) -> Connect:
    async def connect(venue: Venue) -> Client:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(venue.serve_stream, theirs)
        return await open_client(nursery, ours)

    return connect


@pytest.fixture
def connect_user(nursery: trio.Nursery) -> ConnectUser:
    async def connect(venue: Venue) -> UserClient:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(venue.serve_stream, theirs)
        return await open_user_client(nursery, ours)

    return connect
