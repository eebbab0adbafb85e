"""What a configuration says of the data: event types, domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EventType:
    """How one type of event counts.

    name: as in the data's event column.
    weight: what one event adds to the history weight of its item (times its value, if any).
    sign: "negative" events (dislike, hide, return) exclude the item and train as target 0.
    cap: greatest total weight of one user's events of this type on one item; None = no cap.
    half_life: days after which the weight has halved; None = never.
    """

    name: str
    weight: float = 1.0
    sign: Literal["positive", "negative"] = "positive"
    cap: float | None = None
    half_life: float | None = None

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f'weight = {self.weight}: must be above 0; use sign = "negative"')
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"half_life = {self.half_life}: must be above 0 days")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One product line.

    name: short, without "/".
    users: "shared" = the same user key is one person across shared domains; "own" = namespaced.
    feedback: "implicit" = rank items; "explicit" = values are ratings to be predicted.
    """

    name: str
    users: Literal["shared", "own"] = "shared"
    feedback: Literal["implicit", "explicit"] = "implicit"

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f'domain name "{self.name}": must be non-empty and without "/"')
