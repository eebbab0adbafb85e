"""Raw attributes of users and items → feature blocks of a Dataset, fitted on train only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from m6rec.data import features
from m6rec.data.behaviour import Behaviour
from m6rec.data.dataset import Dataset
from m6rec.data.features import Features, Selection
from m6rec.data.prepare import Prepared
from m6rec.data.select import Figure, masks, select

SIDES: tuple[Literal["users", "items"], ...] = ("users", "items")
NO_ATTRIBUTE = ("key", "domain", "title", "hidden")


@dataclass(frozen=True, eq=False)
class Attributes:
    """The fitted features of users and of items.

    derived: how users and items also get features of their events; None = they do not.
    figures: what selection measured of each block column; empty where none was asked for.
    """

    users: Features
    items: Features
    derived: Behaviour | None = None
    figures: tuple[Figure, ...] = ()

    @classmethod
    def fit(cls, prepared: Prepared, train: Dataset) -> Self:
        """Fit on the rows of the users and items that have events in train."""
        tables = prepared.config.features
        frames = {"users": attributes(prepared.users), "items": attributes(prepared.items)}
        derived = Behaviour.fit(tables, frames["items"], train) if tables.derived else None
        fitted = {
            "users": features.fit(frames["users"], tables.users, np.unique(train.user)),
            "items": features.fit(frames["items"], tables.items, np.unique(train.item)),
        }
        figures: list[Figure] = []
        for of in SIDES if tables.select else ():
            blocks, names = fitted[of].apply(frames[of]), fitted[of].names
            rng = np.random.default_rng(0)
            found = select(blocks, names, train, of, tables.select or Selection(), rng)
            fitted[of] = fitted[of].select(masks(found))
            figures += found
        return cls(fitted["users"], fitted["items"], derived, tuple(figures))

    def attach(self, dataset: Dataset, prepared: Prepared) -> Dataset:
        """Return a dataset of the same vocabularies with feature blocks, text columns added to
        the items' text, and those of users as the words that they come with."""
        frame, people = attributes(prepared.items), attributes(prepared.users)
        return replace(
            dataset,
            user_attributes=self.users.apply(people),
            user_text=self.users.text(people),
            item_attributes=self.items.apply(frame),
            item_text=_both(dataset.item_text, self.items.text(frame)),
            derivation=self.derived.derivation(frame, dataset) if self.derived else None,
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted state as plain JSON values."""
        return {
            "users": self.users.state(),
            "items": self.items.state(),
            "derived": self.derived.state() if self.derived else None,
            "figures": [asdict(figure) for figure in self.figures],
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return the attributes whose ``state()`` this was."""
        return cls(
            Features.restore(state["users"]),
            Features.restore(state["items"]),
            Behaviour.restore(state["derived"]) if state["derived"] else None,
            tuple(Figure(**figure) for figure in state["figures"]),
        )


def attributes(frame: pl.DataFrame) -> pl.DataFrame:
    """The raw attribute columns of ``Prepared.users`` or ``Prepared.items``."""
    return frame.drop(NO_ATTRIBUTE, strict=False)


def _both(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if first is None or second is None:
        return first or second
    return tuple(f"{a} {b}".strip() for a, b in zip(first, second, strict=True))
