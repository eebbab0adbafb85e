"""The fitted DeepFM: arrays only, scored without torch; the item side is computed once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.kernels import row_of
from m6rec.models.ratings import with_data

USER_REG = 5.0  # ratings of no deviation that a user's mean is averaged with
ITEM_REG = 5.0  # ratings of the domain's mean that an item's is averaged with
CELLS = 2**22  # numbers of the MLP's first layer that stand in memory at a time
POINTS = 24  # of the Gauss-Legendre rule along the path of integrated gradients


Kind = Literal["history", "attribute", "other"]


def deviation(z: Array, count: Array) -> Floats:
    """Return users' mean deviations from the sums and numbers of their ratings' z."""
    found: Floats = (z / (count + USER_REG)).astype(np.float32)
    return found


def names_of(names: Sequence[str]) -> Array:
    """Return names as an array of bytes (JSON)."""
    return np.frombuffer(json.dumps(list(names)).encode(), np.uint8).copy()


@dataclass(frozen=True, eq=False)
class Scale:
    """How ratings are standardised: of each item (n_items,) float32.

    mean, scale: of the ratings of its domain. base: of its own, shrunk. low, high: least and
    greatest of its domain. In ranked domains 0, 1, 0 and no bounds.
    """

    mean: Floats
    scale: Floats
    base: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, matrix: csr_array, data: Dataset) -> Self:
        n = data.n_items
        arrays = [np.full(n, value, np.float32) for value in SCALES.values()]
        mean, scale, base, low, high = arrays
        count = np.bincount(matrix.indices, minlength=n)
        total = np.bincount(matrix.indices, matrix.data, n)
        for d in np.unique(data.item_domain[data.explicit]):
            inside = data.item_domain == d
            values = matrix.data[inside[matrix.indices]]
            if len(values):
                mean[inside], scale[inside] = values.mean(), max(float(values.std()), 1e-6)
                low[inside], high[inside] = values.min(), values.max()
        of_item = (total + ITEM_REG * mean) / (count + ITEM_REG)
        base[data.explicit] = of_item[data.explicit]
        return cls(mean, scale, base, low, high)

    def standard(self, item: Ids, value: Array) -> Floats:
        """Return ratings of items in deviations from the domain's mean."""
        found: Floats = ((value - self.mean[item]) / self.scale[item]).astype(np.float32)
        return found

    def z(self, matrix: csr_array) -> tuple[Floats, Floats]:
        """Return how far each entry is from its item's mean, in deviations, and 1 where it is a
        rating; else both are 0."""
        item = matrix.indices
        rated = np.isfinite(self.low[item])
        z = np.where(rated, (matrix.data - self.base[item]) / self.scale[item], 0)
        return z.astype(np.float32), rated.astype(np.float32)

    def extended(self, dataset: Dataset) -> Scale:
        """Return the scale with the new items of a dataset, which have no ratings."""
        old, new = np.split(dataset.item_domain, [len(self.mean)])
        rows = {name: np.full(len(new), value, np.float32) for name, value in SCALES.items()}
        for d in np.unique(new):
            like = np.flatnonzero(old == d)[:1]
            for name in SCALES if len(like) else ():
                rows[name][new == d] = getattr(self, "mean" if name == "base" else name)[like]
        joined = [np.concatenate([getattr(self, name), rows[name]]) for name in SCALES]
        return Scale(*joined)

    def state(self) -> State:
        return {f"scale/{name}": getattr(self, name) for name in SCALES}


# what there is of an item, and what that is in ranked domains
SCALES = {"mean": 0.0, "scale": 1.0, "base": 0.0, "low": -np.inf, "high": np.inf}


class Users(NamedTuple):
    """The user side of B requests: see ``interactions.Side``; known: (B,) whether anything is."""

    fields: Floats  # (B, F, k + 1)
    total: Floats  # (B, k)
    bias: Floats  # (B,)
    hidden: Floats  # (B, H)
    deviation: Floats  # (B,)
    known: Mask  # (B,)
    history: csr_array  # (B, n_items)


class Components(NamedTuple):
    """What the fields of one request are sums of, P parts: kind, item and name of each, its
    vector (P, k + 1) and its field (P,)."""

    label: list[tuple[Kind, int, str]]
    vector: Array
    field: Ids


class DeepFMModel(Model):
    """State: item_total (n_items, k), item_hidden (n_items, H), item_parts (n_items, F) = first
    order and half of the pairs of each field; tables history, rating, user, user_attributes
    (rows, k + 1); first (H, F k) = the user's part of the first layer; deep/ = the other layers;
    known, explicit (n_items,), trained (n,) of the items at the fit, active (n_users,),
    user_widths (F,), item_names, scale/. For new items: tables domain and item_attributes, second
    and second_bias = the item's part of the first layer; older runs have none, and abstain on them.
    """

    def __init__(self, recipe: Recipe, state: State) -> None:
        self.recipe, self._state = recipe, state
        self.total: Floats = state["item_total"]
        self.hidden: Floats = state["item_hidden"]
        self.parts: Floats = state["item_parts"]
        self.bias: Floats = self.parts.sum(axis=1)
        self.known: Mask = state["known"]
        self.explicit: Mask = state["explicit"]
        self.scale = Scale(*(state[f"scale/{name}"] for name in SCALES))
        self.bounds = np.r_[0, np.cumsum(state["user_widths"])]
        self.item_names: list[str] = json.loads(state["item_names"].tobytes())
        layers = sum(name.startswith("deep/") for name in state) // 2
        self.layers = [(state[f"deep/{i}/weight"], state[f"deep/{i}/bias"]) for i in range(layers)]
        self.n_items, self.dim = self.total.shape

    def state(self) -> State:
        return self._state

    def update(self, dataset: Dataset) -> DeepFMModel:
        """A new item has no id; its domain and attributes speak for it, as at the fit."""
        first, k, state = self.n_items, self.dim, self._state
        fields = np.zeros((dataset.n_items - first, self.parts.shape[1], k + 1), np.float32)
        known = np.zeros(len(fields), np.bool_)
        hidden = np.zeros((len(fields), self.hidden.shape[1]), np.float32)
        if "second" in state:
            domain = np.zeros((dataset.n_domains, k + 1), np.float32)
            domain[: len(state["domain"])] = state["domain"]
            fields[:, 1] = domain[dataset.item_domain[first:]]
            blocks, at = dataset.new_item_features(first), 0
            for f, name in enumerate(self.item_names, start=2):
                block, at = blocks[name], at + blocks[name].shape[1]
                fields[:, f] = block @ state["item_attributes"][at - block.shape[1] : at]
                known |= block.any(axis=1)
            flat = fields[..., :k].reshape(len(fields), fields.shape[1] * k)
            hidden = flat @ state["second"].T + state["second_bias"]
        vectors = fields[..., :k]
        total = vectors.sum(axis=1)
        pairs = (vectors * (total[:, None] - vectors)).sum(axis=2) / 2
        rows = {"item_total": total, "item_hidden": hidden, "item_parts": fields[..., k] + pairs}
        rows |= {"known": known, "explicit": dataset.explicit[first:]}
        longer = {name: np.concatenate([state[name], new]) for name, new in rows.items()}
        scale = self.scale.extended(dataset).state()
        return DeepFMModel(self.recipe, state | longer | scale)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        u = self.users(query)
        scores: Scores = u.total @ self.total[codes].T
        scores += u.bias[:, None]
        scores += self.bias[codes]
        hidden = self.hidden[codes]
        step = max(1, CELLS // max(1, hidden.size)) if self.layers else len(scores) + 1
        for at in range(0, len(scores), step):
            some = slice(at, at + step)
            scores[some] += self.deep(u.hidden[some, None] + hidden)
        self.finish(scores, u.deviation[:, None], codes)
        scores[~u.known] = np.nan
        scores[:, ~self.known[codes]] = np.nan
        return scores

    def pairs(self, query: Query, row: Ids, item: Ids) -> Scores:
        """Return the scores of pairs of a request and an item: (N,)."""
        u = self.users(query)
        scores: Scores = np.einsum("nk,nk->n", u.total[row], self.total[item])
        scores += u.bias[row] + self.bias[item]
        scores += self.deep(u.hidden[row] + self.hidden[item])
        self.finish(scores, u.deviation[row], item)
        scores[~u.known[row] | ~self.known[item]] = np.nan
        return scores

    def finish(self, scores: Scores, deviation: Floats, item: Ids) -> None:
        """Turn scores of explicit domains into ratings, in place."""
        scores += deviation * self.explicit[item]
        scores *= self.scale.scale[item]
        scores += self.scale.mean[item]
        np.clip(scores, self.scale.low[item], self.scale.high[item], out=scores)

    def deep(self, hidden: Floats) -> Floats:
        """Return (…,): the MLP after its first layer's sums (…, H), 0 without one."""
        for weight, bias in self.layers:
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        return hidden[..., 0] if self.layers else np.zeros(hidden.shape[:-1], np.float32)

    def slope(self, hidden: Array) -> Array:
        """Return the gradient of ``deep``: (…, H)."""
        inputs = []
        for weight, bias in self.layers:
            inputs.append(hidden)
            hidden = np.maximum(hidden, 0) @ weight.T + bias
        slope = np.ones_like(hidden)
        for (weight, _), before in zip(reversed(self.layers), reversed(inputs), strict=True):
            slope = (slope @ weight) * (before > 0)
        return slope

    def users(self, query: Query) -> Users:
        """Return the user side of requests, solved from their histories and attributes."""
        state, n = self._state, len(query)
        history = self.liked(query.within(len(state["trained"])).history)
        row, count = row_of(history), np.diff(history.indptr)
        z, rated = self.scale.z(history)
        n_rated = np.bincount(row, rated, n)
        mean = deviation(np.bincount(row, z, n), n_rated)
        seen = with_data(history, np.ones(len(row))) @ state["history"]
        fields: list[Array] = [seen / np.sqrt(np.maximum(count, 1))[:, None]]
        if "rating" in state:
            table = state["rating"]
            left = with_data(history, (z - mean[row]) * rated) @ table
            fields.append(left / np.sqrt(np.maximum(n_rated, 1))[:, None])
        known = count > 0
        if "user" in state:
            mine = (query.user >= 0) & state["active"][np.maximum(query.user, 0)]
            fields.append(state["user"][np.maximum(query.user, 0)] * mine[:, None])
            known |= mine
        blocks = self.blocks(query)
        table = state["user_attributes"]
        for a, b in zip(self.bounds, self.bounds[1:], strict=False):
            fields.append(blocks[:, a:b] @ table[a:b])
        known |= blocks.any(axis=1)
        stacked = np.stack(fields, axis=1).astype(np.float32)
        vectors, weights = stacked[..., : self.dim], stacked[..., self.dim]
        total = vectors.sum(axis=1)
        pairs = (np.square(total) - np.square(vectors).sum(axis=1)).sum(axis=1) / 2
        hidden = vectors.reshape(n, len(fields) * self.dim) @ state["first"].T
        return Users(stacked, total, weights.sum(axis=1) + pairs, hidden, mean, known, history)

    def blocks(self, query: Query) -> Floats:
        """Return the user attributes of requests side by side: (B, p)."""
        width = int(self.bounds[-1])
        found = [block for _, block in sorted(query.features.items())] if width else []
        joined = np.hstack([np.zeros((len(query), 0)), *found])
        return joined[:, :width].astype(np.float32)

    def liked(self, history: csr_array) -> csr_array:
        """Return the entries that count: ratings, and what was liked, of trained items."""
        item = history.indices
        keep = ((history.data > 0) | self.explicit[item]) & self._state["trained"][item]
        before = np.r_[0, np.cumsum(keep)]
        parts = (history.data[keep], item[keep], before[history.indptr])
        return csr_array(parts, shape=history.shape)

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Split a score over the history and the attributes of the user, and those of the item.

        First order and pairs are split exactly: a pair of user and item counts for the user's
        side, one inside a side by halves. The MLP is split by integrated gradients from an
        unknown user, what the quadrature misses being spread by size.
        """
        u, first = self.users(query), self._state["first"]
        of_field = first.reshape(len(first), u.fields.shape[1], self.dim)  # (H, F, k)
        result: list[list[list[Reason]]] = []
        for b, row in enumerate(np.asarray(items)):
            result.append([[] for _ in row])
            places = np.flatnonzero((row >= 0) & self.known[np.maximum(row, 0)] & u.known[b])
            if not len(places):
                continue
            parts = self.components(query, u, b)
            codes = row[places]
            vectors, weights = parts.vector[:, : self.dim], parts.vector[:, self.dim]
            others = u.total[b] - u.fields[b, parts.field, : self.dim]
            found = (weights + (vectors * others).sum(axis=1) / 2)[:, None]
            found = found + vectors @ self.total[codes].T  # (P, C)
            inner = np.einsum("pk,hpk->ph", vectors, of_field[:, parts.field])
            found += self.integrated(inner, u.hidden[b], self.hidden[codes])
            for c, place in enumerate(places):
                values = found[:, c] * self.scale.scale[codes[c]]
                told = self.of_item(int(codes[c]), float(u.deviation[b]))
                told += [
                    Reason(kind=kind, item=item, name=name, value=float(value))
                    for (kind, item, name), value in zip(parts.label, values, strict=True)
                ]
                result[b][place] = self.inside(told, int(codes[c]))
        return result

    def components(self, query: Query, u: Users, b: int) -> Components:
        """Return what the fields of request b are sums of."""
        state, (a, z) = self._state, u.history.indptr[b : b + 2]
        seen = u.history.indices[a:z]
        label: list[tuple[Kind, int, str]] = [("history", int(j), "") for j in seen]
        found = [(0, state["history"][seen] / np.sqrt(max(len(seen), 1)))]
        if "rating" in state:
            away, rated = self.scale.z(u.history[[b]])
            weight = (away - u.deviation[b]) * rated / np.sqrt(max(rated.sum(), 1))
            label += [("history", int(j), "") for j in seen[rated > 0]]
            found.append((1, (weight[:, None] * state["rating"][seen])[rated > 0]))
        if "user" in state:
            label.append(("other", -1, "who the user is"))
            found.append((len(found), u.fields[b, [len(found)]]))
        block = self.blocks(query.take(slice(b, b + 1)))[0]
        names = [n for n, x in sorted(query.features.items()) for _ in range(x.shape[1])]
        table = state["user_attributes"]
        for start, end in zip(self.bounds, self.bounds[1:], strict=False):
            at = start + np.flatnonzero(block[start:end])
            label += [("attribute", -1, names[p]) for p in at]
            found.append((len(found), block[at, None] * table[at]))
        field = np.repeat([f for f, _ in found], [len(rows) for _, rows in found])
        return Components(label, np.vstack([rows for _, rows in found]), field)

    def integrated(self, inner: Array, user: Floats, items: Floats) -> Array:
        """Return the shares (P, C) of the MLP's rise from an unknown user to this one (C,).

        inner: (P, H) parts of the user's first layer (H,). items: (C, H).
        """
        node, mass = np.polynomial.legendre.leggauss(POINTS)
        path = (node[:, None] + 1) / 2 * user + items[:, None]  # (C, POINTS, H)
        slope = np.einsum("cnh,n->ch", self.slope(path), mass / 2)
        found = inner @ slope.T
        rise = self.deep(user + items) - self.deep(items)
        size = np.abs(found) + 1e-12
        spread: Array = found + (rise - found.sum(axis=0)) * size / size.sum(axis=0)
        return spread

    def of_item(self, item: int, deviation: float) -> list[Reason]:
        """Return what an unknown user's score of an item is made of."""
        scale, rated = float(self.scale.scale[item]), bool(self.explicit[item])
        parts = self.parts[item]
        rest = scale * float(parts[:2].sum() + self.deep(self.hidden[item]))
        told = [Reason(kind="bias" if rated else "popularity", value=rest, item=item, name="item")]
        if rated:
            told.append(Reason(kind="bias", value=float(self.scale.mean[item]), name="average"))
            told.append(Reason(kind="bias", value=scale * deviation, name="user"))
        return told + [
            Reason(kind="attribute", value=scale * float(value), name=name)
            for name, value in zip(self.item_names, parts[2:], strict=True)
            if value
        ]

    def inside(self, told: list[Reason], item: int) -> list[Reason]:
        """Return the reasons, with one for what the limits of the rating scale take off."""
        total = sum(reason.value for reason in told)
        limited = float(np.clip(total, self.scale.low[item], self.scale.high[item]))
        if limited == total:
            return told
        name = "limits of the rating scale"
        return [*told, Reason(kind="other", value=limited - total, name=name)]
