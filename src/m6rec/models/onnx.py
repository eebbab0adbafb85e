"""Towers as an ONNX graph: scored by onnxruntime, without torch.

The graph is the user's side: from the vectors of the items in a history and the attributes to the
vector that meets the keys of the items. What the items' side gives is stored, as in ``towers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.errors import RunError
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.tables import decoded
from m6rec.tracking import Run
from m6rec.training.sequences import histories

WRITABLE = ("towers", "distilled")  # kinds that can be written as a graph
ORDERS = 4  # in which the parts of a request are added, to split a score among them


@dataclass(frozen=True, kw_only=True)
class Onnx(Recipe):
    """Towers that onnxruntime scores, without torch; ``m6rec export`` makes them of a run.

    towers: the kind, "towers" or "distilled", and the options of what is fitted.
    int8: the weights of the network and the vectors of items are 8-bit whole numbers.
    """

    kind: ClassVar[str] = "onnx"
    towers: Mapping[str, Any] = field(default_factory=lambda: {"kind": "towers"})
    int8: bool = False

    def __post_init__(self) -> None:
        kind = self.towers.get("kind")
        if kind not in WRITABLE:
            raise ValueError(f'towers.kind = {kind!r}: must be "{WRITABLE[0]}" or "{WRITABLE[1]}"')

    def choose(self, split: Split, run: Run) -> Self:
        chosen = Recipe.from_table(self.towers, "towers").choose(split, run)
        return replace(self, towers=to_table(chosen))

    def fit(self, train: Dataset, run: Run) -> OnnxModel:
        from m6rec.models.onnx_graph import converted

        return converted(Recipe.from_table(self.towers, "towers").fit(train, run), self.int8)

    def restore(self, state: State) -> OnnxModel:
        return OnnxModel(self, state)


class OnnxModel(Model):
    """State: graph (bytes of the ONNX file); vectors (n_items, d), keys (n_items, e) where they
    are not the vectors, and item_bias (n_items, 1), each as a table of ``tables.decoded``;
    known, item_domain (n_items,), average (d,), length = newest items that are encoded, width =
    user attributes. Raises RunError where onnxruntime is not installed."""

    recipe: Onnx

    def __init__(self, recipe: Onnx, state: State) -> None:
        self.recipe, self._state = recipe, state
        self.vectors = decoded("vectors", state)
        self.keys = decoded("keys", state) if "keys" in state else self.vectors
        self.bias: Floats = decoded("item_bias", state)[:, 0]
        self.known: Mask = state["known"]
        self.item_domain: Ids = state["item_domain"]
        self.n_items = len(self.vectors)
        self.length, self.width = int(state["length"].item()), int(state["width"].item())
        self._session = _session(state["graph"].tobytes())
        self._inputs = {each.name for each in self._session.get_inputs()}

    def state(self) -> State:
        return self._state

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        users = self.users(query)
        if items is None or 2 * len(items) > self.n_items:  # rows of keys are copied if picked
            everything: Scores = users @ self.keys.T
            everything += self.bias
            everything[:, ~self.known] = np.nan
            return everything if items is None else everything[:, items]
        scores: Scores = users @ self.keys[items].T + self.bias[items]
        scores[:, ~self.known[items]] = np.nan
        return scores

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, e + 1): the user's vector, and a 1 for the item's bias."""
        users = self.users(query)
        return np.hstack([users, np.ones((len(users), 1), np.float32)])

    def embed_items(self, domain: int) -> Floats:
        """Return (n_items, e + 1): the item's vector and its bias; zero outside the domain."""
        found: Floats = np.hstack([self.keys, self.bias[:, None]])
        return np.where((self.item_domain == domain)[:, None], found, np.float32(0))

    def users(self, query: Query) -> Floats:
        """Return (B, e) user vectors; NaN where nothing is known of a user."""
        item, count = histories(query, self.length, self.known)
        attributes = self._attributes(query)
        vectors = self.vectors[np.maximum(item, 0)] * (item >= 0)[..., None]
        users = self._run(vectors, count, attributes)
        users[(count == 0) & ~attributes.any(axis=1)] = np.nan
        return users

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Split a score over the history and the attributes, without gradients.

        Starting from "an average history", as many average items and no attributes, the parts of
        the request are added one by one; what each changes is its share, averaged over a few
        orders and their reverse (Shapley value, sampled: Castro et al. 2009).
        """
        history, count = histories(query, self.length, self.known)
        attributes = self._attributes(query)
        names = [n for n, block in sorted(query.features.items()) for _ in range(block.shape[1])]
        result: list[list[list[Reason]]] = []
        for b, row in enumerate(items):
            result.append([[] for _ in row])
            seen, given = history[b, : count[b]], np.flatnonzero(attributes[b])
            cells = np.flatnonzero((row >= 0) & self.known[np.maximum(row, 0)])
            if not len(cells) or not len(seen) + len(given):
                continue
            users = self._shares(seen, attributes[b], given)  # (1 + parts, e)
            values = users.astype(np.float64) @ self.keys[row[cells]].T
            for c, place in enumerate(cells):
                constant = float(values[0, c]) + float(self.bias[row[place]])
                reasons = [Reason(kind="bias", value=constant, name="an average history")]
                reasons += [
                    Reason(kind="history", value=float(v), item=int(i))
                    for i, v in zip(seen, values[1 : 1 + len(seen), c], strict=True)
                ]
                reasons += [
                    Reason(kind="attribute", value=float(v), name=names[p])
                    for p, v in zip(given, values[1 + len(seen) :, c], strict=True)
                ]
                result[b][place] = reasons
        return result

    def _shares(self, seen: Ids, attributes: Floats, given: Ids) -> Floats:
        """The user's vector split: that of the start, then the change by each item and given
        attribute (1 + T + A, e)."""
        t, parts = len(seen), len(seen) + len(given)
        rng = np.random.default_rng(0)
        some = [np.arange(parts), *(rng.permutation(parts) for _ in range(ORDERS // 2 - 1))]
        orders = np.array([way for order in some for way in (order, order[::-1])])
        turn = np.argsort(orders, axis=1)  # of each part, in each order
        added = turn[:, None] < np.arange(parts + 1)[:, None]  # (O, step, parts)
        if t:
            average = self._state["average"]
            path = np.where(added[..., :t, None], self.vectors[seen], average)
        else:
            path = np.zeros((*added.shape[:2], 1, self.vectors.shape[1]), np.float32)
        told = np.zeros((*added.shape[:2], len(attributes)), np.float32)
        told[..., given] = added[..., t:] * attributes[given]
        rows = len(orders) * (parts + 1)
        flat = self._run(
            path.reshape(rows, max(t, 1), -1), np.full(rows, t), told.reshape(rows, -1)
        )
        users = flat.reshape(len(orders), parts + 1, -1).astype(np.float64)
        change = np.take_along_axis(np.diff(users, axis=1), turn[..., None], axis=1)
        found: Floats = np.vstack([users[0, :1], change.mean(axis=0)])
        return found

    def _run(self, vectors: Floats, count: Ids, attributes: Floats) -> Floats:
        """Run the graph: (B, T, d), (B,), (B, p) → (B, e).

        Where the numbers inside are rounded to 8 bits, it is by the range of all that runs at
        once; so that no request changes the answer to another, each then runs alone.
        """
        whole = [(slice(None), vectors.shape[1])]
        if self.recipe.int8:
            whole = [(slice(b, b + 1), max(1, int(n))) for b, n in enumerate(count)]
        found = []
        for rows, length in whole:
            feed: dict[str, Array] = {
                "vectors": vectors[rows, :length],
                "count": count[rows].astype(np.int64),
                "attributes": attributes[rows],
            }
            feed = {name: value for name, value in feed.items() if name in self._inputs}
            found.append(self._session.run(["user"], feed)[0])
        return np.concatenate(found)

    def _attributes(self, query: Query) -> Floats:
        """(B, p) user attributes that the graph takes."""
        blocks = [block for _, block in sorted(query.features.items())]
        none = np.zeros((len(query), 0), np.float32)
        return np.hstack([none, *blocks]).astype(np.float32)[:, : self.width]


def _session(graph: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RunError('kind = "onnx" needs onnxruntime: pip install "m6rec[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # quickest for one request
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
