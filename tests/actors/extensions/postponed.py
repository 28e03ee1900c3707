"""Handlers whose annotations are read late, as `from __future__ import annotations` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyactors import ActorContext, BookUpdated, TrustChanged

if TYPE_CHECKING:
    from polyactors import TradePrinted


class Late:
    async def handle(self, message: BookUpdated | TrustChanged, context: ActorContext) -> None:
        pass


class LateBatch(Late):
    async def handle(self, messages: list[TrustChanged]) -> None:  # type: ignore[override]
        pass


async def only_for_checkers(message: TradePrinted) -> None:
    pass
