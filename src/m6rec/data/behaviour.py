"""Derived features fitted on train: the item columns that they read, and their scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl

from m6rec import config
from m6rec.arrays import Array, Ids
from m6rec.data.dataset import Dataset
from m6rec.data.derived import Derivation, derived_item, derived_user, newest_requests
from m6rec.data.features import FeatureSpec, cell_values, guess, numbers
from m6rec.data.normalise import Normaliser
from m6rec.data.schema import FeatureTables
from m6rec.errors import ConfigError, DataError, suggestion

WHOLE = FeatureSpec(kind="categorical")  # a cell is one value


@dataclass(frozen=True, kw_only=True, eq=False)
class Behaviour:
    """How events on these items become features; ``derivation`` binds it to a dataset.

    price, group: item columns, None where there is none. spec, groups: how the cells of ``group``
    are read, and the values that train has. user_scale, item_scale: of each column
    of ``derived_user`` and ``derived_item``.
    """

    price: str | None = None
    group: str | None = None
    spec: FeatureSpec = WHOLE
    groups: tuple[str, ...] = ()
    user_scale: tuple[Normaliser, ...] = ()
    item_scale: tuple[Normaliser, ...] = ()

    @classmethod
    def fit(cls, tables: FeatureTables, items: pl.DataFrame, train: Dataset) -> Self:
        """Fit on the newest requests of train; items: n_items rows of raw attributes.

        Raises ConfigError for a column that the items lack, DataError for one without a value.
        """
        for option, name in (("price", tables.price), ("group", tables.group)):
            if name is not None and name not in items.columns:
                raise ConfigError(
                    f'[data.features] {option} = "{name}": the items have no column "{name}"'
                    f"{suggestion(name, items.columns)}"
                )
        seen = items[np.unique(train.item)]
        found = cls(price=tables.price, group=tables.group)
        if found.price is not None and np.isnan(numbers(seen[found.price])).all():
            raise DataError(
                f'[data.features] price = "{found.price}": the column holds no number; '
                "name another, or leave price out"
            )
        if found.group is not None:
            spec = _spec(items[found.group], tables.items.get(found.group))
            groups = tuple(_first(seen[found.group], spec)[1].unique().sort())
            if not groups:
                raise DataError(
                    f'[data.features] group = "{found.group}": the column is empty; '
                    "name another, or leave group out"
                )
            found = replace(found, spec=spec, groups=groups)
        of = found.derivation(items, train)
        raw = [
            derived_user(q, of.item_group, of.n_groups, of.price) for q in newest_requests(train)
        ]
        return replace(
            found, user_scale=_scales(np.vstack(raw)), item_scale=_scales(derived_item(train))
        )

    def derivation(self, items: pl.DataFrame, dataset: Dataset) -> Derivation:
        """Return what describes the requests of a dataset; items: its rows of raw attributes."""
        group, n_groups = dataset.item_domain, dataset.n_domains
        if self.group is not None:
            group, n_groups = self._codes(items[self.group]), len(self.groups)
        return Derivation(
            item_group=group,
            n_groups=n_groups,
            price=None if self.price is None else numbers(items[self.price]),
            user_scale=self.user_scale,
            item_scale=self.item_scale,
        )

    def state(self) -> dict[str, Any]:
        """Return the fitted state as plain JSON values."""
        return {
            "price": self.price,
            "group": self.group,
            "spec": config.to_table(self.spec),
            "groups": list(self.groups),
            "user_scale": _tables(self.user_scale),
            "item_scale": _tables(self.item_scale),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """Return the behaviour whose ``state()`` this was."""
        return cls(
            price=state["price"],
            group=state["group"],
            spec=config.from_table(FeatureSpec, state["spec"]),
            groups=tuple(state["groups"]),
            user_scale=_restored(state["user_scale"]),
            item_scale=_restored(state["item_scale"]),
        )

    def _codes(self, series: pl.Series) -> Ids:
        """(n_items,) place of each cell's first value in ``groups``, -1 = none of them."""
        row, value = _first(series, self.spec)
        place = value.cast(pl.Enum(self.groups), strict=False).to_physical()
        codes = np.full(len(series), -1)
        codes[row] = place.cast(pl.Int64).fill_null(-1).to_numpy()
        return codes


def _scales(raw: Array) -> tuple[Normaliser, ...]:
    return tuple(Normaliser.fit(column, "zscore") for column in raw.T)


def _tables(scales: tuple[Normaliser, ...]) -> list[dict[str, Any]]:
    return [{name: array.tolist() for name, array in s.state().items()} for s in scales]


def _restored(tables: Sequence[Mapping[str, Any]]) -> tuple[Normaliser, ...]:
    arrays = [{name: np.array(a, np.float64) for name, a in each.items()} for each in tables]
    return tuple(Normaliser.restore("zscore", each) for each in arrays)


def _spec(series: pl.Series, declared: FeatureSpec | None) -> FeatureSpec:
    """How a column is split into values: as declared or guessed; other than "multi", not at all."""
    spec = declared or guess(series)
    if isinstance(series.dtype, (pl.List, pl.Array)):
        return replace(spec, kind="multi")
    return spec if spec.kind == "multi" else WHOLE


def _first(series: pl.Series, spec: FeatureSpec) -> tuple[Ids, pl.Series]:
    """The rows that have a value, and the first value of each."""
    row, value = cell_values(series, spec)
    row, place = np.unique(row, return_index=True)
    return row, value.gather(place)
