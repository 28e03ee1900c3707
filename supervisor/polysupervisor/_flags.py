"""What a supervisor is told once, when it is made (OTP's supervisor flags)."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import ge, in_, instance_of, optional

from polysupervisor._child import Strategy
from polysupervisor._intensity import Intensity

AutoShutdown = Literal["never", "any", "all"]
"""Whether the end of any, or of all, significant children ends the supervisor."""


@attrs.frozen(kw_only=True)
class Flags:
    """Raises ``TypeError`` or ``ValueError`` for what makes no sense."""

    strategy: Strategy = attrs.field(validator=instance_of(Strategy))
    intensity: Intensity = attrs.field(validator=instance_of(Intensity))
    auto_shutdown: AutoShutdown = attrs.field(validator=in_(("never", "any", "all")))
    stop_deadline: float = attrs.field(validator=ge(0))
    dynamic: bool = False
    """Children come and go, and stop at the same time."""
    max_children: int | None = attrs.field(default=None, validator=optional(ge(0)))
