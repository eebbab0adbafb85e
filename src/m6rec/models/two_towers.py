"""What all fitted towers share, whatever runs their network: scores, vectors and reasons."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.base import Model, Reason
from m6rec.models.kernels import fill_products
from m6rec.models.pct_model import PctModel
from m6rec.models.tower_inputs import latent, latent_size, later_features, user_features
from m6rec.text import FittedText, Name, encoder_of
from m6rec.training.sequences import gaps, histories

TASTE = "taste by PCT"


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What the user's tower takes of B requests.

    item: (B, T) newest items, oldest first, padded on the right with -1. gap: (B, T) class of
    the time since the event before. count: (B,) items. attributes: (B, p). latent: (B, D, k)
    the user's PCT vector in each domain; k = 0 without PCT.
    """

    item: Ids
    gap: Ids
    count: Ids
    attributes: Floats
    latent: Floats

    def informed(self) -> Mask:
        """Return (B, D) whether anything is known of a user in a domain."""
        known = (self.count > 0) | self.attributes.any(axis=1)
        return known[:, None] | self.latent.any(axis=2)


class TwoTowers(Model):
    """A score is the dot product of the user's vector in a domain with the key of an item, and
    the item's bias.

    vectors: (n_items, d), what the network takes of a history. keys: (n_items, e). bias, known,
    item_domain: (n_items,). average: (d,) the mean vector of events. width: user attributes that
    the network takes. length: newest items. joint: of all domains; else of the one asked for.

    State, for items that came after the fit: under new/ weight (p, d), which makes a vector of φ
    (missing in older runs, and where there is no φ), scale (D,) of ``later_features``, texts/ =
    the encoder; under later/ the vectors and keys that were made.
    """

    def __init__(
        self, vectors: Floats, keys: Floats, bias: Floats, state: State, width: int, length: int,
        joint: bool, attributes: bool, texts: Name, pct: PctModel | None,
    ) -> None:  # fmt: skip
        self._state = state
        self.average: Floats = state["average"]
        self.width, self.length, self.joint = width, length, joint
        self.attributes, self.pct = attributes, pct
        self.n_domains = int(state["sizes"][2])
        self._encoder = encoder_of(texts)
        self._place(vectors, keys, bias)
        if "later/keys" in state:
            self._append(state["later/vectors"], state["later/keys"])

    def _append(self, vectors: Floats, keys: Floats) -> None:
        """Put further items after those that there are."""
        bias = np.zeros(len(keys), np.float32)
        pairs = (self.vectors, vectors), (self.keys, keys), (self.bias, bias)
        longer, keyed, biased = (np.concatenate(pair) for pair in pairs)
        self._place(longer, keyed, biased)

    def _place(self, vectors: Floats, keys: Floats, bias: Floats) -> None:
        self.vectors, self.keys, self.bias = vectors, keys, bias
        self.n_items = len(vectors)
        self.known: Mask = self._state["known"][: self.n_items]
        self.item_domain: Ids = self._state["item_domain"][: self.n_items]
        inside = [np.flatnonzero(self.item_domain == d) for d in range(self.n_domains)]
        # (e + 1, n): rows of keys that are picked anew are copied each time
        self._inside = [(at, np.ascontiguousarray(self._columns(at))) for at in inside]

    def _columns(self, items: Ids) -> Floats:
        """Return the keys of items and their biases (e + 1, n)."""
        return np.hstack([self.keys[items], self.bias[items, None]]).T

    def state(self) -> State:
        return self._state

    def update(self, dataset: Dataset) -> Self:
        """A new item has no id; what is known of it speaks for it, as at the fit."""
        first, state, longer = self.n_items, self._state, copy(self)
        pct = longer.pct = None if self.pct is None else self.pct.update(dataset)
        n = dataset.n_items - first
        vectors, keys = (np.zeros((n, t.shape[1]), np.float32) for t in (self.vectors, self.keys))
        known = np.zeros(n, np.bool_)
        if "new/weight" in state:
            phi = later_features(
                dataset, first, self.attributes, self._texts, pct, state["new/scale"]
            )
            made = phi @ state["new/weight"]
            found = self.keys_of(made, phi[:, phi.shape[1] - latent_size(pct) :])
            if found is not None:
                vectors, keys = made, found
                known = phi.any(axis=1) & ~dataset.explicit[first:]
        rows = {"known": known, "item_domain": dataset.item_domain[first:]}
        rows |= {"later/vectors": vectors, "later/keys": keys}
        longer._state = state | {
            name: np.concatenate([state[name], new]) if name in state else new
            for name, new in rows.items()
        }
        if pct is not None:
            longer._state |= nest("pct", pct.state())
        longer._append(vectors, keys)
        return longer

    @cached_property
    def _texts(self) -> FittedText | None:
        state = unnest("new/texts", self._state)
        return self._encoder.restore(state) if state else None

    @abstractmethod
    def keys_of(self, vectors: Floats, latent: Floats) -> Floats | None:
        """Return (m, e): what meets the users' vectors, of items with these vectors (m, d) and
        PCT vectors (m, k); None = that is not known."""

    @abstractmethod
    def run(self, vectors: Floats, inputs: Inputs) -> Floats:
        """Return the users' vectors in each domain (B, D, e) from the vectors of their items
        (B, T, d), zeros where padded, and the rest of the inputs; or (B, 1, e) where they are the
        same in all domains."""

    @abstractmethod
    def shares(self, inputs: Inputs, domain: int, keys: Floats) -> tuple[Array, Array, Array]:
        """Split the scores of C items, keys (C, e), for a single request.

        Returns the baselines (C,), those of an average history and nothing else, the
        contributions (C, T) of the history, and those of the attributes and, last, PCT (C, p + 1).
        """

    def read(self, query: Query, domains: Sequence[int]) -> dict[int, Inputs]:
        """Return what the network takes of the requests to each domain."""
        blocks = user_features(query.features, len(query), self.attributes)[:, : self.width]
        known = [latent(self.pct, query, d) for d in range(self.n_domains)]
        told = blocks, np.stack(known, axis=1)

        def of(among: Mask) -> Inputs:
            item, time, count = histories(query, self.length, among)
            return Inputs(item, gaps(time), count, *told)

        if self.joint:
            return dict.fromkeys(domains, of(self.known))
        return {d: of(self.known & (self.item_domain == d)) for d in domains}

    def users(self, query: Query, domains: Sequence[int] | None = None) -> Floats:
        """Return (B, D, e) vectors in these domains, by default all; NaN in others, and where
        nothing is known of a user."""
        users = np.full((len(query), self.n_domains, self.keys.shape[1]), np.nan, np.float32)
        before: Inputs | None = None
        for d, inputs in self.read(query, domains or range(self.n_domains)).items():
            if inputs is not before:
                inside = (inputs.item >= 0)[..., None]
                found = self.run(self.vectors[np.maximum(inputs.item, 0)] * inside, inputs)
            known = inputs.informed()[:, d]
            users[known, d] = found[known, min(d, found.shape[1] - 1)]
            before = inputs
        return users

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        asked = None if items is None else np.unique(self.item_domain[items]).tolist()
        users = self.users(query, asked)
        users = np.concatenate([users, np.ones_like(users[:, :, :1])], axis=2)  # takes the bias
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.empty((len(query), len(codes)), np.float32)
        for d in range(self.n_domains):
            if items is None:
                at, keys = self._inside[d]
            else:
                at = np.flatnonzero(self.item_domain[codes] == d)
                keys = self._columns(codes[at])
            fill_products(users[:, d], keys, at, scores)
        scores[:, ~self.known[codes]] = np.nan
        return scores

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, e + 1): the user's vector, and a 1 for the item's bias."""
        users = self.users(query, [domain])[:, domain]
        return np.hstack([users, np.ones((len(users), 1), np.float32)])

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        """Return (n_items, e + 1): the item's vector and its bias; zero outside the domain."""
        at = slice(None) if items is None else items
        found: Floats = np.hstack([self.keys[at], self.bias[at, None]])
        return np.where((self.item_domain[at] == domain)[:, None], found, np.float32(0))

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Split each score over the history, the attributes and PCT, see ``shares``.

        The baseline is told as "an average history": as many average items, nothing else.
        """
        names = [n for n, block in sorted(query.features.items()) for _ in range(block.shape[1])]
        result: list[list[list[Reason]]] = [[[] for _ in row] for row in items]
        wanted = np.where((items >= 0) & self.known[np.maximum(items, 0)], items, -1)
        by_domain = self.read(query, np.unique(self.item_domain[wanted[wanted >= 0]]).tolist())
        for b, row in enumerate(wanted):
            for d in np.unique(self.item_domain[row[row >= 0]]).tolist():
                inputs = by_domain[d]
                n = max(1, int(inputs.count[b]))
                one = Inputs(
                    inputs.item[b : b + 1, :n], inputs.gap[b : b + 1, :n],
                    inputs.count[b : b + 1], inputs.attributes[b : b + 1],
                    inputs.latent[b : b + 1],
                )  # fmt: skip
                if not one.informed()[0, d]:
                    continue
                places = np.flatnonzero((row >= 0) & (self.item_domain[row] == d))
                found = self.shares(one, d, self.keys[row[places]])
                for c, place in enumerate(places):
                    base, seen, told = (part[c] for part in found)
                    base = float(base) + float(self.bias[row[place]])
                    result[b][place] = reasons_of(one, d, base, seen, told, names)
        return result


def reasons_of(
    inputs: Inputs, domain: int, base: float, seen: Array, told: Array, names: list[str]
) -> list[Reason]:
    """Name the parts of one score."""
    reasons = [Reason(kind="bias", value=base, name="an average history")]
    count = int(inputs.count[0])
    reasons += [
        Reason(kind="history", value=float(v), item=int(i))
        for i, v in zip(inputs.item[0, :count], seen[:count], strict=True)
    ]
    reasons += [
        Reason(kind="attribute", value=float(told[p]), name=names[p])
        for p in np.flatnonzero(inputs.attributes[0])
    ]
    if inputs.latent[0, domain].any():
        reasons.append(Reason(kind="other", value=float(told[-1]), name=TASTE))
    return reasons
