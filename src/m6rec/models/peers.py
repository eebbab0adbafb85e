"""People as items: who shares tastes and friends with the asker, and what their people like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.sparse import coo_array, csr_array

from m6rec.arrays import Array, Ids, Mask, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models.additive import Additive, power, trained_items, training_matrix
from m6rec.models.base import Recipe
from m6rec.models.kernels import compact, row_of, times
from m6rec.models.search import is_open, search
from m6rec.tracking import Run

GRID = {"others": (1.0, 0.3, 3.0), "rarity": (0.5, 1.0, 0.25), "size": (0.5, 1.0, 0.25)}


@dataclass(frozen=True, kw_only=True)
class Peers(Recipe):
    """Score a person by what their history shares with the asker's, and any other item by the
    people in the asker's history who have it.

    In domains of people (see ``[data.domains.X] people``). With h the history of the asker, T_p
    that of person p, n_j the users of item j, and all norms within one domain s of the history:
    r̂_p = Σ_s share_s Σ_{j∈s} (h_j/‖h‖) n_j^-rarity T_pj / ‖T_p‖^(2 size), an item j that is a
    person being a common acquaintance; for an item i that is none,
    r̂_i = Σ_{people p} (h_p/‖h‖) T_pi / ‖T_p‖^(2 size). After Adamic and Adar 2003. Abstains on
    people without a history, on other items where the history holds nobody, and in explicit
    domains.

    others: share_s of other domains than that of the person, 1 being that of the person's own.
    rarity: how much less the common is than the rare. size: how much a person's longer history
    is discounted. Options that are "auto" are chosen on a holdout of train.
    binary: histories count as 0/1, whatever their weights.
    """

    kind: ClassVar[str] = "peers"
    others: float | Literal["auto"] = "auto"
    rarity: float | Literal["auto"] = "auto"
    size: float | Literal["auto"] = "auto"
    binary: bool = True

    def choose(self, split: Split, run: Run) -> Peers:
        return search(self, split, run, GRID, split.train.person >= 0)

    def fit(self, train: Dataset, run: Run) -> PeersModel:
        if is_open(self, GRID):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        told = training_matrix(train, binary=self.binary)
        return PeersModel(self, told, train.person, train.item_domain, train.explicit)

    def restore(self, state: State) -> PeersModel:
        parts = (state["data"], state["indices"], state["indptr"])
        shape = (len(state["indptr"]) - 1, len(state["person"]))
        told = csr_array(parts, shape=shape)
        return PeersModel(self, told, state["person"], state["item_domain"], state["explicit"])


class PeersModel(Additive):
    """told: (n_users, n_items) histories. person, item_domain: (n_items,). matrix: (n_items,
    n_items), what each item of a history says for each item."""

    def __init__(
        self, recipe: Peers, told: csr_array, person: Ids, item_domain: Ids, explicit: Mask
    ) -> None:
        self.recipe, self.told, self.person = recipe, compact(told), person
        self.item_domain, self.explicit = item_domain, explicit
        self.joint, self.binary, self.n_items = True, recipe.binary, len(person)
        known = np.where(person >= 0, person, 0)
        self.knows = (person >= 0) & (np.diff(told.indptr) > 0)[known]  # people with a history
        self.trained = np.where(person >= 0, self.knows, trained_items(told)) & ~explicit
        self.matrix = self._matrix(recipe)

    def _matrix(self, recipe: Peers) -> csr_array:
        n = self.n_items
        of_domain = self.item_domain[self.told.indices]
        n_domains = int(self.item_domain.max(initial=0)) + 1
        cell = row_of(self.told).astype(np.int64) * n_domains + of_domain
        squares = np.bincount(cell, self.told.data.astype(np.float64) ** 2)
        shrunk = self.told.data * power(squares, -float(recipe.size))[cell]
        parts = (shrunk.astype(np.float32), self.told.indices, self.told.indptr)
        told = csr_array(parts, shape=self.told.shape)

        columns = np.flatnonzero(self.knows)
        of_people = coo_array(told[self.person[columns]])  # (people, n): what each of them has
        place, item = of_people.coords
        degree = np.bincount(self.told.indices, minlength=n)
        own = self.item_domain[columns[place]] == self.item_domain[item]
        alike = of_people.data * power(degree, -float(recipe.rarity))[item]
        alike *= np.where(own, 1.0, float(recipe.others))
        things = (self.person < 0)[item]
        rows = np.concatenate([item, columns[place[things]]])
        cells = np.concatenate([columns[place], item[things]])
        values = np.concatenate([alike, of_people.data[things]])
        return compact(csr_array((values.astype(np.float32), (rows, cells)), shape=(n, n)))

    def inputs(self, query: Query) -> csr_array:
        found = super().inputs(query)
        row = row_of(found).astype(np.int64)
        n_domains = int(self.item_domain.max(initial=0)) + 1
        cell = row * n_domains + self.item_domain[found.indices]
        norm = np.sqrt(np.bincount(cell, found.data.astype(np.float64) ** 2))
        found.data /= norm[cell].astype(np.float32)
        return found

    def product(self, inputs: csr_array) -> Scores:
        return times(inputs, self.matrix)

    def reach(self, query: Query) -> Scores:
        return self.whole(query)

    def contributions(self, inputs: csr_array, items: Ids) -> Array:
        table: Array = self.matrix[inputs.indices][:, items].toarray()
        table *= inputs.data[:, None]
        return table

    @property
    def group(self) -> Ids:
        return (self.person >= 0).astype(np.int32)

    def active(self, inputs: csr_array) -> Mask:
        """Of people it says something where there is a history, of other items where that holds
        somebody."""
        n = inputs.shape[0]
        row, people = row_of(inputs), self.knows[inputs.indices]
        anything = np.bincount(row, minlength=n) > 0
        somebody = np.bincount(row[people], minlength=n) > 0
        return np.stack([somebody, anything], axis=1)

    def update(self, dataset: Dataset) -> PeersModel:
        shape = (self.told.shape[0], dataset.n_items)
        told = csr_array((self.told.data, self.told.indices, self.told.indptr), shape=shape)
        person = np.where(dataset.person < shape[0], dataset.person, -1)
        return PeersModel(self.recipe, told, person, dataset.item_domain, dataset.explicit)  # type: ignore[arg-type]

    def state(self) -> State:
        return {
            "indptr": self.told.indptr,
            "indices": self.told.indices,
            "data": self.told.data,
            "person": self.person,
            "item_domain": self.item_domain,
            "explicit": self.explicit,
        }
