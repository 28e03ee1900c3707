import json
from typing import Any, Literal

import pytest

from polyactors.protocol.subscription import (
    IDS_PER_FRAME,
    PING,
    TOKENS_PER_CONNECTION,
    resubscribe_frames,
    subscribe_frames,
    unsubscribe_frames,
    user_operation_frames,
    user_subscribe_frames,
)

TOKENS = [str(number) for number in range(1, 251)]


def parse(frames: list[str]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def test_the_first_frame_is_typed_and_the_rest_are_operations() -> None:
    first, second, third = parse(subscribe_frames(TOKENS))
    assert first == {
        "assets_ids": TOKENS[:100],
        "type": "market",
        "custom_feature_enabled": True,
    }
    assert second == {
        "operation": "subscribe",
        "assets_ids": TOKENS[100:200],
        "custom_feature_enabled": True,
    }
    assert third["assets_ids"] == TOKENS[200:]
    assert "type" not in third


def test_the_custom_features_can_be_left_off_in_every_frame() -> None:
    frames = parse(subscribe_frames(TOKENS, custom_features=False))
    assert [frame["custom_feature_enabled"] for frame in frames] == [False] * 3
    _, again = parse(resubscribe_frames(TOKENS[:1], custom_features=False))
    assert again["custom_feature_enabled"] is False


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 15])
def test_no_frame_holds_more_ids_than_allowed_and_none_is_lost(count: int) -> None:
    tokens = TOKENS[:count]
    frames = parse(subscribe_frames(tokens, ids_per_frame=7))
    assert [token for frame in frames for token in frame["assets_ids"]] == tokens
    assert max(len(frame["assets_ids"]) for frame in frames) <= 7
    assert len(frames) == max(1, -(-count // 7))


def test_without_tokens_the_typed_frame_stands_alone() -> None:
    (frame,) = parse(subscribe_frames([]))
    assert frame["assets_ids"] == []
    assert frame["type"] == "market"
    assert unsubscribe_frames([]) == []
    assert resubscribe_frames([]) == []


def test_a_token_is_asked_for_once() -> None:
    (frame,) = parse(subscribe_frames(["1", "2", "1"]))
    assert frame["assets_ids"] == ["1", "2"]


def test_unsubscribing_names_every_token() -> None:
    assert parse(unsubscribe_frames(TOKENS[:3], ids_per_frame=2)) == [
        {"operation": "unsubscribe", "assets_ids": ["1", "2"]},
        {"operation": "unsubscribe", "assets_ids": ["3"]},
    ]


def test_a_resubscription_unsubscribes_each_chunk_first() -> None:
    frames = parse(resubscribe_frames(TOKENS[:3], ids_per_frame=2))
    assert [(frame["operation"], frame["assets_ids"]) for frame in frames] == [
        ("unsubscribe", ["1", "2"]),
        ("subscribe", ["1", "2"]),
        ("unsubscribe", ["3"]),
        ("subscribe", ["3"]),
    ]
    assert all("type" not in frame for frame in frames)


def test_frames_of_no_ids_are_refused() -> None:
    for make in (subscribe_frames, unsubscribe_frames, resubscribe_frames):
        with pytest.raises(ValueError, match="at least 1"):
            make(TOKENS, ids_per_frame=0)


def test_the_limits_are_those_that_were_observed() -> None:
    assert (PING, IDS_PER_FRAME, TOKENS_PER_CONNECTION) == ("PING", 100, 200)


# The user channel


def test_the_first_frame_of_the_user_channel_carries_the_credentials() -> None:
    (frame,) = parse(user_subscribe_frames("key", "secret", "pass"))
    auth = {"apiKey": "key", "secret": "secret", "passphrase": "pass"}
    assert frame == {"auth": auth, "type": "user"}
    (frame,) = parse(user_subscribe_frames("key", "secret", "pass", ["0x1", "0x2", "0x1"]))
    assert frame == {"auth": auth, "markets": ["0x1", "0x2"], "type": "user"}


def test_many_markets_are_added_in_further_frames_without_credentials() -> None:
    first, second, third = parse(user_subscribe_frames("key", "secret", "pass", TOKENS))
    assert first["markets"] == TOKENS[:100]
    assert second == {"operation": "subscribe", "markets": TOKENS[100:200]}
    assert third == {"operation": "subscribe", "markets": TOKENS[200:]}


@pytest.mark.parametrize("operation", ["subscribe", "unsubscribe"])
def test_markets_are_added_and_removed(operation: Literal["subscribe", "unsubscribe"]) -> None:
    frames = parse(user_operation_frames(operation, TOKENS, ids_per_frame=200))
    assert frames == [
        {"operation": operation, "markets": TOKENS[:200]},
        {"operation": operation, "markets": TOKENS[200:]},
    ]
    assert user_operation_frames(operation, []) == []


def test_a_chunk_of_markets_holds_at_least_one() -> None:
    with pytest.raises(ValueError, match="ids_per_frame must be at least 1"):
        user_subscribe_frames("key", "secret", "pass", ["0x1"], ids_per_frame=0)
    with pytest.raises(ValueError, match="ids_per_frame must be at least 1"):
        user_operation_frames("subscribe", ["0x1"], ids_per_frame=0)
