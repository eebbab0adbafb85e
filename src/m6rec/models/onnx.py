"""Towers as an ONNX graph: scored by onnxruntime, without torch.

The graph is the user's side: from the vectors of the items in a history and the attributes to the
vector that meets the keys of the items. What the items' side gives is stored, as in ``towers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from m6rec.arrays import Array, Floats, State, unnest
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split
from m6rec.errors import RunError
from m6rec.models.base import Recipe
from m6rec.models.pct import Pct
from m6rec.models.tables import decoded
from m6rec.models.two_towers import Inputs, TwoTowers
from m6rec.tracking import Run

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


class OnnxModel(TwoTowers):
    """State: graph (bytes of the ONNX file); vectors (n_items, d), keys (n_items, e) where they
    are not the vectors, and item_bias (n_items, 1), each as a table of ``tables.decoded``;
    known, item_domain (n_items,), average (d,), length = newest items that are encoded, sizes
    (3,) of ``towers.make_network``, PCT under pct/, new/ and later/ as of ``TwoTowers``. Abstains
    on new items where keys are not the vectors: what makes them is not in the graph. Raises
    RunError where onnxruntime is not installed."""

    recipe: Onnx

    def __init__(self, recipe: Onnx, state: State) -> None:
        self.recipe = recipe
        vectors = decoded("vectors", state)
        keys = decoded("keys", state) if "keys" in state else vectors
        bias = decoded("item_bias", state)[:, 0]
        of_pct = recipe.towers.get("pct")
        pct = None
        if of_pct is not None:
            known_pct = Pct.from_table(of_pct, "towers.pct")
            assert isinstance(known_pct, Pct)
            pct = known_pct.restore(unnest("pct", state))
        width, length = int(state["sizes"][0]), int(state["length"].item())
        used = bool(recipe.towers.get("attributes", True))
        joint = recipe.towers.get("scope") != "domain"
        texts = recipe.towers.get("texts", "hashed")
        super().__init__(vectors, keys, bias, state, width, length, joint, used, texts, pct)
        self._session = Session(state["graph"].tobytes())
        self._inputs = {each.name for each in self._session.inner.get_inputs()}

    def keys_of(self, vectors: Floats, latent: Floats) -> Floats | None:
        return None if "keys" in self._state else vectors

    def run(self, vectors: Floats, inputs: Inputs) -> Floats:
        """Run the graph.

        Where the numbers inside are rounded to 8 bits, it is by the range of all that runs at
        once; so that no request changes the answer to another, each then runs alone.
        """
        whole = [(slice(None), vectors.shape[1])]
        if self.recipe.int8:
            whole = [(slice(b, b + 1), max(1, int(n))) for b, n in enumerate(inputs.count)]
        found = []
        for rows, length in whole:
            feed: dict[str, Array] = {
                "vectors": vectors[rows, :length],
                "gap": inputs.gap[rows, :length],
                "count": inputs.count[rows].astype(np.int64),
                "attributes": inputs.attributes[rows],
                "latent": inputs.latent[rows],
            }
            feed = {name: value for name, value in feed.items() if name in self._inputs}
            found.append(self._session.inner.run(["user"], feed)[0])
        return np.concatenate(found)

    def shares(self, inputs: Inputs, domain: int, keys: Floats) -> tuple[Array, Array, Array]:
        """Without gradients: the parts of the request are added one by one; what each changes is
        its share, averaged over a few orders and their reverse (Shapley value, sampled: Castro
        et al. 2009)."""
        t, p = int(inputs.count[0]), inputs.attributes.shape[1]
        seen, given = inputs.item[0, :t], np.flatnonzero(inputs.attributes[0])
        parts = t + len(given) + 1  # the last is PCT
        rng = np.random.default_rng(0)
        some = [np.arange(parts), *(rng.permutation(parts) for _ in range(ORDERS // 2 - 1))]
        orders = np.array([way for order in some for way in (order, order[::-1])])
        turn = np.argsort(orders, axis=1)  # of each part, in each order
        added = turn[:, None] < np.arange(parts + 1)[:, None]  # (O, step, parts)
        rows = len(orders) * (parts + 1)
        if t:
            path = np.where(added[..., :t, None], self.vectors[seen], self.average)
        else:
            path = np.zeros((*added.shape[:2], 1, self.vectors.shape[1]), np.float32)
        told = np.zeros((*added.shape[:2], p), np.float32)
        told[..., given] = added[..., t:-1] * inputs.attributes[0, given]
        latent = added[..., -1, None, None] * inputs.latent[0]
        flat = Inputs(
            np.zeros((rows, 0), np.int64), np.repeat(inputs.gap, rows, axis=0),
            np.full(rows, t), told.reshape(rows, p), latent.reshape(rows, *latent.shape[2:]),
        )  # fmt: skip
        users = self.run(path.reshape(rows, max(t, 1), -1), flat)
        users = users[:, min(domain, users.shape[1] - 1)]
        values = users.astype(np.float64).reshape(len(orders), parts + 1, -1) @ keys.T
        change = np.take_along_axis(np.diff(values, axis=1), turn[..., None], axis=1)
        share = change.mean(axis=0).T  # (C, parts)
        others = np.zeros((len(keys), p + 1))
        others[:, [*given, p]] = share[:, t:]
        return values[0, 0], share[:, :t], others


class Session:
    """A graph that runs on one thread; to another process it travels as its bytes."""

    def __init__(self, graph: bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise RunError('kind = "onnx" needs onnxruntime: pip install "m6rec[onnx]"') from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # quickest for one request
        options.log_severity_level = 3
        self.graph = graph
        self.inner = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def __reduce__(self) -> tuple[type[Session], tuple[bytes]]:
        return Session, (self.graph,)
