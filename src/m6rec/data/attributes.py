"""Raw attributes of users and items → feature blocks of a Dataset, fitted on train only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl

from m6rec.data import features
from m6rec.data.dataset import Dataset
from m6rec.data.features import Features
from m6rec.data.prepare import Prepared

NO_ATTRIBUTE = ("key", "domain", "title", "hidden")


@dataclass(frozen=True, eq=False)
class Attributes:
    """The fitted features of users and of items."""

    users: Features
    items: Features

    @classmethod
    def fit(cls, prepared: Prepared, train: Dataset) -> Self:
        """Fit on the rows of the users and items that have events in train."""
        specs = prepared.config.features
        return cls(
            users=features.fit(attributes(prepared.users), specs.users, np.unique(train.user)),
            items=features.fit(attributes(prepared.items), specs.items, np.unique(train.item)),
        )

    def attach(self, dataset: Dataset, prepared: Prepared) -> Dataset:
        """Return a dataset of the same vocabularies with feature blocks, and text columns added
        to the items' text."""
        frame = attributes(prepared.items)
        return replace(
            dataset,
            user_features=self.users.apply(attributes(prepared.users)),
            item_features=self.items.apply(frame),
            item_text=_both(dataset.item_text, self.items.text(frame)),
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted state as plain JSON values."""
        return {"users": self.users.state(), "items": self.items.state()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Return the attributes whose ``state()`` this was."""
        return cls(Features.restore(state["users"]), Features.restore(state["items"]))


def attributes(frame: pl.DataFrame) -> pl.DataFrame:
    """The raw attribute columns of ``Prepared.users`` or ``Prepared.items``."""
    return frame.drop(NO_ATTRIBUTE, strict=False)


def _both(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if first is None or second is None:
        return first or second
    return tuple(f"{a} {b}".strip() for a, b in zip(first, second, strict=True))
