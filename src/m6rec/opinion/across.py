"""Collaborative filtering across entities: what others did lately says what one does next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, State
from m6rec.models.kernels import nearest_rated, transposed, weighted_means

LEAST = 10  # windows that both must have


@dataclass(frozen=True, eq=False)
class Across:
    """Neighbours on the rating matrix of entities × windows, some windows apart.

    The rating of an entity for a window is its deviation there. Of entity e next, the neighbours
    are all entities f, e among them, ``l`` windows before: s = Σ x y / √(Σ x² Σ y²) over the
    windows that both have, shrunk by n / (n + shrink). What moves against e counts with its sign
    turned. Forecast: x̂_e = Σ s x_f / Σ |s| over the k nearest that have a value.

    near: (2 E lags, E) similarities above 0; the second half is of turned signs.
    """

    lags: int
    k: int
    near: csr_array

    @classmethod
    def fit(cls, z: Array, lags: int, k: int, shrink: float) -> Across:
        """Fit on the deviations z (E, W), NaN at gaps."""
        before, after = _lagged(z[:, :-1], lags), _sparse(z[:, 1:])
        after = _enough(after)
        near = nearest_rated(after, before, k, shrink=shrink)
        return cls(lags, k, transposed(near))

    def forecast(self, z: Array) -> Array:
        """Return (E, W) the deviation forecast at each window for the next; 0 where no neighbour
        has a value."""
        total, weight = weighted_means(_lagged(z, self.lags), self.near, self.k, value_left=True)
        out: Array = (total / np.maximum(weight, 1e-9)).T.astype(float)
        return out

    def sources(self, e: int, entities: tuple[str, ...], n: int = 5) -> list[tuple[str, int, float]]:
        """Return the n nearest of an entity: which entity, how many windows before, s with its
        sign."""
        column = self.near[:, [e]].tocoo()
        place, s = column.coords[0], column.data
        half, size = self.near.shape[0] // 2, len(entities)
        order = np.argsort(-s, kind="stable")[:n]
        found = []
        for at, value in zip(place[order], s[order], strict=True):
            lag, entity = divmod(int(at) % half, size)
            found.append((entities[entity], lag, float(value if at < half else -value)))
        return found

    def state(self) -> State:
        m = self.near
        return {"data": m.data, "indices": m.indices, "indptr": m.indptr}

    @classmethod
    def restore(cls, lags: int, k: int, n_entities: int, state: State) -> Across:
        parts = (state["data"], state["indices"], state["indptr"])
        return cls(lags, k, csr_array(parts, shape=(2 * n_entities * lags, n_entities)))


def _lagged(z: Array, lags: int) -> csr_array:
    """Return (W, 2 E lags): each entity now, 1 window before …, then the same with signs turned."""
    w = z.shape[1]
    padded = np.pad(z, ((0, 0), (lags - 1, 0)), constant_values=np.nan)
    blocks = [padded[:, lags - 1 - lag : lags - 1 - lag + w].T for lag in range(lags)]
    return _sparse(np.concatenate([*blocks, *(-block for block in blocks)], axis=1))


def _sparse(values: Array) -> csr_array:
    """Return the entries that are not NaN; zeros stay, as ratings that are there."""
    row, column = np.nonzero(~np.isnan(values))
    indptr = np.r_[0, np.cumsum(np.bincount(row, minlength=len(values)))]
    parts = (values[row, column].astype(np.float32), column.astype(np.int32), indptr)
    return csr_array(parts, shape=values.shape)


def _enough(rows: csr_array) -> csr_array:
    """Return the rows, those with too few entries emptied."""
    count = np.diff(rows.indptr)
    keep = np.repeat(count >= LEAST, count)
    indptr = np.r_[0, np.cumsum(np.where(count >= LEAST, count, 0))]
    return csr_array((rows.data[keep], rows.indices[keep], indptr), shape=rows.shape)
